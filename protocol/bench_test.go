package protocol_test

import (
	"bytes"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// records64 are 64 records of 256 bytes.
func records64() []batch.Record {
	rs := make([]batch.Record, 64)
	for i := range rs {
		rs[i].Body = bytes.Repeat([]byte{byte(i)}, 256)
	}
	return rs
}

// publishing is the way of a batch: the client encodes records and frame, the broker reads, decodes and scans,
// and a consumer walks the records.
type publishing struct {
	records []batch.Record
	blob    []byte
	frame   []byte
	in      bytes.Reader
	frames  *protocol.FrameReader
	out     protocol.Publish
	record  batch.Record
}

func newPublishing() *publishing {
	p := &publishing{records: records64()}
	p.frames = protocol.NewFrameReader(&p.in, 1<<20)
	return p
}

func (p *publishing) encode() {
	p.blob = p.blob[:0]
	for i := range p.records {
		p.blob = batch.AppendRecord(p.blob, &p.records[i])
	}
	m := protocol.Publish{Topic: "orders.eu", Count: uint32(len(p.records))}
	p.frame = append(m.AppendHeader(p.frame[:0], 7, len(p.blob)), p.blob...)
}

func (p *publishing) decode(tb testing.TB) {
	p.in.Reset(p.frame)
	body, err := p.frames.Next()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := protocol.DecodePublish(body, &p.out); err != nil {
		tb.Fatal(err)
	}
	if _, err := batch.Scan(p.out.Records, batch.DefaultLimits()); err != nil {
		tb.Fatal(err)
	}
	c, n := batch.Records(p.out.Records), 0
	for c.Next(&p.record) {
		n++
	}
	if n != len(p.records) {
		tb.Fatalf("%d records: %v", n, c.Err())
	}
}

// TestHotPathAllocatesNothing guards the whole way of a batch, 64 records of 256 bytes.
func TestHotPathAllocatesNothing(t *testing.T) {
	p := newPublishing()
	if got := testing.AllocsPerRun(100, func() { p.encode(); p.decode(t) }); got >= 1 {
		t.Errorf("%v allocations for a batch", got)
	}
	var published protocol.Published
	var deliver protocol.Deliver
	ack := (&protocol.Published{Offset: 1 << 40, TimeMs: 1 << 41}).AppendFrame(nil, 7)
	delivery := (&protocol.Deliver{Topic: "orders.eu", Batches: p.blob}).AppendFrame(nil, 0)
	buf := make([]byte, 0, 64<<10)
	if got := testing.AllocsPerRun(100, func() {
		_, err1 := protocol.DecodePublished(ack[4:], &published)
		_, err2 := protocol.DecodeDeliver(delivery[4:], &deliver)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		published.AppendFrame(buf, 7)
		deliver.AppendHeader(buf, len(deliver.Batches))
	}); got != 0 {
		t.Errorf("%v allocations for an acknowledgement and a delivery", got)
	}
}

func BenchmarkEncodeBatch(b *testing.B) {
	p := newPublishing()
	b.ReportAllocs()
	for b.Loop() {
		p.encode()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(p.records)), "ns/record")
}

func BenchmarkDecodeBatch(b *testing.B) {
	p := newPublishing()
	p.encode()
	b.ReportAllocs()
	for b.Loop() {
		p.decode(b)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(p.records)), "ns/record")
}

func BenchmarkPublished(b *testing.B) {
	var m protocol.Published
	frame := (&protocol.Published{Offset: 1 << 40, TimeMs: 1 << 41}).AppendFrame(nil, 7)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.DecodePublished(frame[4:], &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkControl(b *testing.B) {
	frame := sample(protocol.KindSubscribe).AppendFrame(nil, 7)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := protocol.Decode(frame[4:]); err != nil {
			b.Fatal(err)
		}
	}
}
