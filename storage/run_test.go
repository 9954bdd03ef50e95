package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// model is what a log should hold.
type model map[topic.PartitionID][]storage.Batch

// TestRandomAgainstModel appends, writes, and reads at random, and compares with slices in memory.
func TestRandomAgainstModel(t *testing.T) {
	for range lane.Pick(5, 30, 300) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		l := open(t, storage.Options{TailBytes: int64(1 + r.IntN(200_000))})
		m := model{}
		for range 600 {
			p := topic.PartitionID(r.IntN(5))
			switch r.IntN(12) {
			case 0:
				flush(t, l)
			case 1, 2, 3, 4, 5:
				b := stored(p, l.End(p), 1+r.IntN(5), int64(len(m[p])/3), r.IntN(1<<r.IntN(16)))
				m[p] = append(m[p], b)
				if err := l.Append([]storage.Batch{b}); err != nil {
					t.Fatal(err)
				}
			case 6:
				m.checkTime(t, l, p, int64(r.IntN(60)))
			default:
				m.checkRead(t, l, p, topic.Offset(r.Int64N(int64(l.End(p))+1)), 1+r.IntN(300_000))
			}
		}
	}
}

func (m model) checkRead(t *testing.T, l *storage.Log, p topic.PartitionID, from topic.Offset, most int) {
	t.Helper()
	out, next, n, err := l.Read(p, from, most, nil)
	if err != nil {
		t.Fatalf("read partition %d at %d: %v", p, from, err)
	}
	var want []byte
	at, records := from, uint32(0)
	for _, b := range m[p] {
		if b.End() <= from || b.Base >= next {
			continue
		}
		want, at, records = append(want, b.Raw...), b.End(), records+b.Count
	}
	if !bytes.Equal(out, want) || next != at || n != records {
		t.Fatalf("read partition %d at %d: %d bytes, next %d, %d records; want %d, %d, %d", p, from, len(out), next, n, len(want), at, records)
	}
	if next == from && from != l.End(p) {
		t.Fatalf("read partition %d at %d: nothing, the end is %d", p, from, l.End(p))
	}
}

func (m model) checkTime(t *testing.T, l *storage.Log, p topic.PartitionID, at int64) {
	t.Helper()
	want := l.End(p)
	for _, b := range m[p] {
		if b.TimeMs >= at {
			want = b.Base
			break
		}
	}
	if got, err := l.OffsetAt(p, at); err != nil || got != want {
		t.Fatalf("partition %d at time %d: %d, %v; want %d", p, at, got, err, want)
	}
}

// TestRunUnderReaders lets the writer run behind a small queue while readers follow: Append waits for room, and every
// reader gets every record.
func TestRunUnderReaders(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1 << 20, QueueBytes: 2 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	const end = topic.Offset(4000)
	for range 4 {
		readers.Go(func() {
			wake := make(chan struct{}, 1)
			w := storage.Waiter{Partition: 1, Wake: func() { wake <- struct{}{} }}
			for next := topic.Offset(0); next < end; {
				var err error
				if _, next, _, err = l.Read(1, next, 64<<10, nil); err != nil {
					t.Error(err)
					return
				}
				if w.From = next; next < end && l.Await(&w) {
					<-wake
				}
			}
		})
	}
	fill(t, l, 1, int(end)/2, 2000)
	readers.Wait()
	cancel()
	writer.Wait()
}

// TestWriteFault is the fault table of the one persistent step of a running log: it reports once, and Append, which
// would wait for room that nobody makes, fails.
func TestWriteFault(t *testing.T) {
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		var failed []error
		l := open(t, storage.Options{QueueBytes: 1000, Fail: func(err error) { failed = append(failed, err) }})
		fill(t, l, 1, 1, 2000)
		fault.Arm("storage.write", action, 1)
		err := l.Flush()
		fault.Disarm()
		if !errors.Is(err, fault.ErrInjected) || len(failed) != 1 || !errors.Is(failed[0], fault.ErrInjected) {
			t.Errorf("%s: %v, reported %v", action, err, failed)
		}
		if err := l.Append([]storage.Batch{stored(1, 2, 1, 0, 1)}); !errors.Is(err, storage.ErrClosed) || !errors.Is(err, fault.ErrInjected) {
			t.Errorf("%s: append afterwards: %v", action, err)
		}
		if _, next, _, err := l.Read(1, 0, 1, nil); err != nil || next != 2 {
			t.Errorf("%s: what memory has cannot be read: next %d, %v", action, next, err)
		}
	}
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "segments", "0000000001-0000000001"), 0o700); err != nil {
			t.Fatal(err)
		}
		fault.Arm("storage.empty", action, 1)
		_, err := storage.Open(storage.Options{Dir: dir})
		fault.Disarm()
		if !errors.Is(err, fault.ErrInjected) {
			t.Errorf("open with %s: %v", action, err)
		}
	}
}

func TestTailReadAllocates(t *testing.T) {
	l := open(t, storage.Options{})
	fill(t, l, 1, 10, 100)
	buf := make([]byte, 0, 64<<10)
	if n := testing.AllocsPerRun(1000, func() { _, _, _, _ = l.Read(1, 3, 64<<10, buf) }); n != 0 {
		t.Errorf("%v allocations in a read from memory, want 0", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, partitions := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%dpartitions", partitions), func(b *testing.B) {
			l := open(b, storage.Options{})
			ctx, cancel := context.WithCancel(b.Context())
			var writer sync.WaitGroup
			writer.Go(func() { _ = l.Run(ctx) })
			size := len(stored(1, 0, 64, 0, 250).Raw)
			b.SetBytes(int64(size))
			one := make([]storage.Batch, 1)
			i := 0
			for b.Loop() {
				p := topic.PartitionID(i % partitions)
				one[0] = stored(p, topic.Offset(i/partitions*64), 64, 0, 250) // encoding is part of the figure
				i++
				if err := l.Append(one); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			writer.Wait()
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, tail := range []int64{1, 1 << 30} {
		b.Run(map[int64]string{1: "badger", 1 << 30: "tail"}[tail], func(b *testing.B) {
			l := open(b, storage.Options{TailBytes: tail})
			fill(b, l, 1, 2000, 8<<10)
			flush(b, l)
			b.SetBytes(2000 * 16 << 10) // two bodies of 8 KiB each
			buf := make([]byte, 0, 1<<20)
			for b.Loop() {
				for next := topic.Offset(0); next < 4000; {
					var err error
					if _, next, _, err = l.Read(1, next, 256<<10, buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
