package storage_test

import (
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

var coldMiB = flag.Int("cold", 512, "MiB of records for BenchmarkCold; 256 make a segment")

// BenchmarkCold reads sealed segments whose files are not in the page cache: one of 1,000 partitions (topic), and all of
// them in turn (scan), as they were written, in batches of 16 KiB, and after a merge, which sorts them. An operation is
// one partition, or all. The read-ahead of the disk matters: /sys/block/*/queue/read_ahead_kb.
func BenchmarkCold(b *testing.B) {
	dir := b.TempDir()
	l, ends := coldLog(b, dir)
	b.Run("written", func(b *testing.B) { benchmarkCold(b, l, dir, ends) })
	if err := l.MergeAll(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("merged", func(b *testing.B) { benchmarkCold(b, l, dir, ends) })
}

const coldPartitions = 1000

// coldLog fills and seals segments.
func coldLog(b *testing.B, dir string) (l *storage.Log, end topic.Offset) {
	b.Helper()
	l = open(b, storage.Options{Dir: dir, TailBytes: 1})
	payload := make([]byte, 16<<10)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	inSegment, number := 0, uint64(1)
	for written := 0; written < *coldMiB<<20; end++ {
		for p := range topic.PartitionID(coldPartitions) {
			m := batch.Meta{Partition: p + 1, Base: end, Count: 1, Publisher: "spiffe://td/client/a"}
			s := storage.Batch{Partition: p + 1, Base: end, Count: 1, Raw: batch.Append(nil, &m, batch.AppendRecord(nil, &batch.Record{Body: payload}))}
			if err := l.Append([]storage.Batch{s}); err != nil {
				b.Fatal(err)
			}
			written, inSegment = written+len(s.Raw), inSegment+len(s.Raw)
		}
		flush(b, l)
		if inSegment >= storage.SegmentBytesDefault-16<<20 {
			cut(b, l, number, number)
			flush(b, l)
			number, inSegment = number+1, 0
		}
	}
	for range 3 { // the rest, and the newest two, which are never merged
		cut(b, l, number, number)
		flush(b, l)
		number++
	}
	return l, end
}

func benchmarkCold(b *testing.B, l *storage.Log, dir string, end topic.Offset) {
	size := int64(end) * (16 << 10)
	b.Run("topic", func(b *testing.B) {
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			turnCold(b, l, dir)
			b.StartTimer()
			readCold(b, l, topic.PartitionID(1+i*37%coldPartitions), end)
		}
	})
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(size * coldPartitions)
		for b.Loop() {
			b.StopTimer()
			turnCold(b, l, dir)
			b.StartTimer()
			for p := range topic.PartitionID(coldPartitions) {
				readCold(b, l, p+1, end)
			}
		}
	})
}

// turnCold has the segments open, and nothing of their values in the page cache, where it stays as long as it is mapped.
func turnCold(b *testing.B, l *storage.Log, dir string) {
	b.Helper()
	l.CloseSealed()
	forget(b, dir)
	if err := l.OpenSealed(); err != nil {
		b.Fatal(err)
	}
}

// readCold reads a partition whole.
func readCold(b *testing.B, l *storage.Log, p topic.PartitionID, end topic.Offset) {
	b.Helper()
	buf := make([]byte, 0, 512<<10)
	for at := topic.Offset(0); at < end; {
		_, next, n, err := l.Read(p, at, 256<<10, buf)
		if err != nil || n == 0 {
			b.Fatalf("read partition %d at %d: %d, %v", p, at, n, err)
		}
		at = next
	}
}

// forget drops every file below dir from the page cache.
func forget(b *testing.B, dir string) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
	if err != nil {
		b.Fatal(err)
	}
}
