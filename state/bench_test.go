package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// publisher makes entries of k publishes of n records of size bytes, over parts, with
// rising sequences. The slices are reused.
type publisher struct {
	parts   []topic.PartitionID
	records []byte
	info    batch.Info
	seq     map[topic.PartitionID]uint64
	entry   []byte
	cmd     []byte
}

func newPublisher(parts []topic.PartitionID, n, size int) *publisher {
	p := &publisher{parts: parts, seq: map[topic.PartitionID]uint64{}, info: batch.Info{Count: uint32(n)}}
	for range n {
		p.records = batch.AppendRecord(p.records, &batch.Record{Body: make([]byte, size)})
	}
	return p
}

func (p *publisher) next(k int) []byte {
	p.entry = state.AppendEntryHeader(p.entry[:0], 1_000)
	for i := range k {
		part := p.parts[i%len(p.parts)]
		p.cmd = state.AppendPublish(p.cmd[:0], &state.Publish{
			Partition: part, Producer: [16]byte{1}, Sequence: p.seq[part], Info: p.info,
			Principal: "spiffe://example.org/client/orders", PolicyVersion: 1, Records: p.records,
		})
		p.seq[part] += uint64(p.info.Count)
		p.entry = state.AppendCommand(p.entry, p.cmd)
	}
	return p.entry
}

// BenchmarkApply measures entries of one 64 KiB batch and of 1,000 small publishes, to
// one partition and spread. ns/publish is the time in Apply for one command; ns/op also
// has the making of the entry.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name                 string
		topics, publishes    int
		recordsEach, bodyLen int
	}{
		{"1x64KiB", 1, 1, 250, 256},
		{"1x64KiB/of=10000", 10_000, 1, 250, 256},
		{"1x256B/of=10000", 10_000, 1, 1, 256},
		{"1000x256B", 1, 1000, 1, 256},
		{"1000x256B/over=100", 100, 1000, 1, 256},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := newLog(b, state.Limits{})
			var parts []topic.PartitionID
			for i := range c.topics {
				parts = append(parts, l.create(fmt.Sprintf("t%d", i), 1)...)
			}
			p := newPublisher(parts[:min(len(parts), 100)], c.recordsEach, c.bodyLen)
			var spent time.Duration
			for b.Loop() {
				entry := p.next(c.publishes)
				l.n++
				l.e.Reset()
				start := time.Now()
				if err := l.m.Apply(l.n, entry, &l.e); err != nil {
					b.Fatal(err)
				}
				spent += time.Since(start)
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*c.publishes), "ns/publish")
		})
	}
}

// BenchmarkAppendOnly is the part of Apply that is not ours: header, copy and CRC.
func BenchmarkAppendOnly(b *testing.B) {
	p := newPublisher([]topic.PartitionID{1}, 250, 256)
	m := batch.Meta{Publisher: "spiffe://example.org/client/orders", Count: 250}
	b.SetBytes(int64(len(p.records)))
	for b.Loop() {
		batch.Append(make([]byte, 0, len(p.records)+batch.Overhead(&m)), &m, p.records)
	}
}
