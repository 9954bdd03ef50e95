package storage_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// BenchmarkSegments writes, seals and verifies whole segments, and reports CPU-seconds per GB: 16 KiB batches, and
// single records of 300 bytes, of 1,000 partitions in turn. An operation is 1 GiB.
func BenchmarkSegments(b *testing.B) {
	for _, body := range []int{16 << 10, 300} {
		b.Run(fmt.Sprint(body), func(b *testing.B) {
			const total = 1 << 30
			b.SetBytes(total)
			b.ReportMetric(0, "ns/op")
			raw := make([]storage.Batch, 0, 1000)
			payload := make([]byte, body)
			for i := range payload {
				payload[i] = byte(rand.Uint32())
			}
			records := batch.AppendRecord(nil, &batch.Record{Body: payload})
			var scratch []byte
			var cpu float64
			for b.Loop() {
				before := cpuSeconds()
				run(b, func(l *storage.Log, sealed <-chan uint64) {
					written, inSegment, number := 0, 0, uint64(1)
					for base := topic.Offset(0); written < total; base++ {
						raw = raw[:0]
						for p := range topic.PartitionID(1000) {
							m := batch.Meta{Partition: p + 1, Base: base, Count: 1, TimeMs: int64(base), Publisher: "spiffe://td/client/a"}
							scratch = batch.Append(scratch[:0], &m, records)
							raw = append(raw, storage.Batch{Partition: p + 1, Base: base, Count: 1, TimeMs: int64(base), Raw: bytes.Clone(scratch)})
							written += len(raw[p].Raw)
							inSegment += len(raw[p].Raw)
						}
						if err := l.Append(raw); err != nil {
							b.Fatal(err)
						}
						if inSegment >= storage.SegmentBytesDefault {
							if err := l.Cut(storage.Cut{Number: number, Point: storage.Point{Index: number * 1000}}); err != nil {
								b.Fatal(err)
							}
							number, inSegment = number+1, 0
						}
					}
					for <-sealed < number-1 {
					}
				})
				cpu += cpuSeconds() - before
			}
			b.ReportMetric(cpu/float64(b.N)/(total/1e9), "cpu-s/GB")
		})
	}
}

// run gives use a running log and stops it.
func run(b *testing.B, use func(l *storage.Log, sealed <-chan uint64)) {
	b.Helper()
	sealed := make(chan uint64, 1000)
	l := open(b, storage.Options{TailBytes: 64 << 20})
	l.OnSeal(func(h storage.Head) { sealed <- h.Number })
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	use(l, sealed)
	stop()
	wg.Wait()
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
