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

// segmentsOf fills n segments with batches of two records of each partition, and seals them. want has what partition p was
// given, by batch.
func segmentsOf(t testing.TB, l *storage.Log, n, batches, body int, partitions ...topic.PartitionID) (want map[topic.PartitionID][][]byte) {
	t.Helper()
	want = map[topic.PartitionID][][]byte{}
	for i := range n {
		for _, p := range partitions {
			want[p] = append(want[p], fill(t, l, p, batches, body)...)
		}
		cut(t, l, uint64(i+1), uint64(100*(i+1)))
		flush(t, l)
	}
	return want
}

func names(l *storage.Log) (list []string) {
	for _, s := range l.Status() {
		list = append(list, s.Name)
	}
	return list
}

// TestDeadSegmentsGo: a segment goes, folder and all, when nothing in it is readable, except the newest two; a reader
// inside finishes first.
func TestDeadSegmentsGo(t *testing.T) {
	dir := t.TempDir()
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	segmentsOf(t, l, 5, 10, 500, 1, 2)
	l.Trim(1, 100)
	tidy(t, l)
	if err := l.Covered(2, 0, 100); err != nil {
		t.Errorf("a segment went although partition 2 is readable: %v", err)
	}
	l.Drop(2)
	tidy(t, l)
	if got := fmt.Sprint(names(l)); got != "[0000000004-0000000004 0000000005-0000000005 0000000006-0000000006]" {
		t.Errorf("segments %s", got)
	}
	left, err := os.ReadDir(filepath.Join(dir, "segments"))
	if err != nil || len(left) != 3 {
		t.Errorf("%d folders, %v", len(left), err)
	}
	if _, _, _, err := l.Read(1, 50, 1, nil); !errors.Is(err, storage.ErrTrimmed) {
		t.Errorf("read below the low offset: %v", err)
	}
	if _, next, n, err := l.Read(1, 100, 1, nil); err != nil || n != 0 || next != 100 {
		t.Errorf("read at the end: %d, %d, %v", next, n, err)
	}
}

func tidy(t testing.TB, l *storage.Log) {
	t.Helper()
	if err := l.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestMerge: neighbours that are mostly dead become one segment with what is readable in them, also after a restart, and
// the same again when it thins out further.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := segmentsOf(t, l, 6, 20, 3000, 1, 2, 3)
	l.Trim(1, 150)
	l.Trim(2, 7) // in the middle of a batch: the batch stays whole
	l.Trim(3, 240)
	tidy(t, l)
	if got := fmt.Sprint(names(l)); got != "[0000000001-0000000004 0000000005-0000000005 0000000006-0000000006 0000000007-0000000007]" {
		t.Errorf("segments %s", got)
	}
	check := func(l *storage.Log) {
		t.Helper()
		for p, low := range map[topic.PartitionID]topic.Offset{1: 150, 2: 7, 3: 240} {
			got, err := readAll(l, p, low)
			if err != nil || !bytes.Equal(got, bytes.Join(want[p][low/2:], nil)) {
				t.Errorf("partition %d from %d: %d bytes, %v", p, low, len(got), err)
			}
		}
	}
	check(l)
	l.Trim(2, 130)
	tidy(t, l)
	if got := names(l)[0]; got != "0000000001-0000000004.1" {
		t.Errorf("segments %s", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want[2] = append(make([][]byte, 65), want[2][65:]...)
	l = open(t, storage.Options{Dir: dir, TailBytes: 1})
	for p, low := range map[topic.PartitionID]topic.Offset{1: 150, 2: 130, 3: 240} {
		if err := errors.Join(l.Place(p, low, 240), l.Covered(p, low, 240)); err != nil {
			t.Error(err)
		}
	}
	got, err := readAll(l, 2, 130)
	if err != nil || !bytes.Equal(got, bytes.Join(want[2], nil)) {
		t.Errorf("partition 2 after the restart: %d bytes, %v", len(got), err)
	}
}

// TestMergeSmall: many small neighbours become one.
func TestMergeSmall(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	want := segmentsOf(t, l, 12, 2, 100, 1, 2)
	tidy(t, l)
	if got := fmt.Sprint(names(l)); got != "[0000000001-0000000010 0000000011-0000000011 0000000012-0000000012 0000000013-0000000013]" {
		t.Errorf("segments %s", got)
	}
	for p, w := range want {
		if got, err := readAll(l, p, 0); err != nil || !bytes.Equal(got, bytes.Join(w, nil)) {
			t.Errorf("partition %d: %d bytes, %v", p, len(got), err)
		}
	}
}

// TestMergeFaults fails or ends each step of a merge and a deletion: the next start has everything that is readable, from
// the old segments or the new one.
func TestMergeFaults(t *testing.T) {
	for _, step := range append([]string{"segment.open", "storage.write", "merge.swap", "segment.unseal", "segment.delete"}, sealSteps...) {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
			t.Run(fmt.Sprintf("%s/%s", step, action), func(t *testing.T) {
				if step != "seal.rename" && step != "segment.delete" {
					lane.Need(t, 2, "C-05")
				}
				dir := t.TempDir()
				l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
				if err != nil {
					t.Fatal(err)
				}
				want := segmentsOf(t, l, 5, 10, 500, 1)
				l.Trim(1, 53)
				fault.Arm(step, action, 1)
				err = l.Tidy(t.Context())
				fault.Disarm()
				if !errors.Is(err, fault.ErrInjected) {
					t.Errorf("%v", err)
				}
				l.Close()
				l = open(t, storage.Options{Dir: dir, TailBytes: 1})
				if err := errors.Join(l.Place(1, 53, 100), l.Covered(1, 53, 100)); err != nil {
					t.Fatal(err)
				}
				if got, err := readAll(l, 1, 53); err != nil || !bytes.Equal(got, bytes.Join(want[1][26:], nil)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				tidy(t, l)
				if got, err := readAll(l, 1, 53); err != nil || !bytes.Equal(got, bytes.Join(want[1][26:], nil)) {
					t.Errorf("after the repeat: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// TestLows compares the low offsets of retention with a search through all batches.
func TestLows(t *testing.T) {
	for range lane.Pick(4, 60, 2000) {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 3))
		l := open(t, storage.Options{TailBytes: int64(1 + r.IntN(20_000))})
		var all []storage.Batch
		number, at := uint64(1), int64(0)
		for range r.IntN(60) {
			switch r.IntN(6) {
			case 0:
				flush(t, l)
			case 1:
				cut(t, l, number, number*10)
				flush(t, l)
				number++
			default:
				at += int64(r.IntN(3))
				b := stored(1, l.End(1), 1+r.IntN(3), at, r.IntN(3000))
				all = append(all, b)
				if err := l.Append([]storage.Batch{b}); err != nil {
					t.Fatal(err)
				}
			}
		}
		low := topic.Offset(0)
		if len(all) > 0 && r.IntN(2) == 0 {
			low = all[r.IntN(len(all))].Base
			l.Trim(1, low)
		}
		before := int64(r.IntN(int(at) + 3))
		want := l.End(1)
		for i := len(all) - 1; i >= 0 && all[i].TimeMs >= before && all[i].End() > low; i-- {
			want = all[i].Base
		}
		if got, err := l.AgeLow(1, before); err != nil || got != max(want, low) {
			t.Fatalf("seed %d: age %d: low %d, want %d; %v", seed, before, got, max(want, low), err)
		}
		keep := uint64(r.IntN(40_000))
		got, err := l.BytesLow(1, keep)
		if err != nil {
			t.Fatal(err)
		}
		const value = 256 << 10
		var kept, readable uint64
		for _, b := range all {
			if b.Base >= got {
				kept += uint64(len(b.Raw))
			}
			if b.End() > low {
				readable += uint64(len(b.Raw))
			}
		}
		if kept > keep+value || kept+value < min(keep, readable) {
			t.Fatalf("seed %d: keep %d of %d bytes: low %d keeps %d", seed, keep, readable, got, kept)
		}
		if len(all) > 0 && got >= l.End(1) && low < l.End(1) {
			t.Fatalf("seed %d: keep %d bytes: nothing is left", seed, keep)
		}
	}
}

// TestReadersDuringRetention reads at random while segments are cut, trimmed, merged and deleted: every read is right,
// or says that the offset was trimmed.
func TestReadersDuringRetention(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 100_000})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	const partitions = 4
	for range 3 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for ctx.Err() == nil {
				p := topic.PartitionID(1 + r.IntN(partitions))
				if end := l.End(p); end > 0 {
					from := topic.Offset(r.Int64N(int64(end)))
					if _, next, n, err := l.Read(p, from, 20_000, nil); err == nil && (n == 0 || next <= from) || err != nil && !errors.Is(err, storage.ErrTrimmed) {
						t.Errorf("read partition %d at %d: %d, %d, %v", p, from, next, n, err)
						return
					}
				}
			}
		})
	}
	for i := range uint64(lane.Pick(15, 60, 600)) {
		for p := range topic.PartitionID(partitions) {
			fill(t, l, p+1, 10, 2000)
			if p > 0 {
				l.Trim(p+1, l.End(p+1)-topic.Offset(20*(p+1)))
			}
		}
		cut(t, l, i+1, (i+1)*10)
		if err := l.WaitSealed(t.Context(), i+1); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
}

// TestMergePassesDamage: neighbours of which one is damaged are left as they are, and do not keep others from being
// merged.
func TestMergePassesDamage(t *testing.T) {
	dir := t.TempDir()
	l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var alive []byte   // the batch that a merge would copy from segment 1
	for i := range 7 { // partition 3 is in segment 3 alone: it stays alive
		fill(t, l, 1, 10, 5000)
		raw := fill(t, l, 2, 1, 5000)[0]
		if i == 0 {
			alive = raw
		}
		if i == 2 {
			fill(t, l, 3, 100, 5000)
		}
		cut(t, l, uint64(i+1), uint64(100*(i+1)))
		flush(t, l)
	}
	name := filepath.Join(dir, "segments", "0000000001-0000000001", "000001.vlog")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, alive)
	if at < 0 {
		t.Fatalf("%s does not hold the batch of partition 2", name)
	}
	b[at+len(alive)/2] ^= 0xff
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Trim(1, l.End(1))
	tidy(t, l)
	if got := fmt.Sprint(names(l)); got != "[0000000001-0000000001 0000000002-0000000002 0000000003-0000000003 0000000004-0000000005 0000000006-0000000006 0000000007-0000000007 0000000008-0000000008]" {
		t.Errorf("segments %s", got)
	}
}
