package batch_test

import (
	"bytes"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
)

// blob64 is 64 records of 256 bytes.
func blob64() []byte { return bytes.Repeat(blobOf(batch.Record{Body: make([]byte, 256)}), 64) }

func perRecord(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/record")
}

func BenchmarkScan(b *testing.B) {
	blob, lim := blob64(), batch.DefaultLimits()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := batch.Scan(blob, lim); err != nil {
			b.Fatal(err)
		}
	}
	perRecord(b)
}

func BenchmarkRecords(b *testing.B) {
	blob := blob64()
	var r batch.Record
	b.ReportAllocs()
	for b.Loop() {
		c := batch.Records(blob)
		for c.Next(&r) {
		}
	}
	perRecord(b)
}

func BenchmarkParse(b *testing.B) {
	stored := batch.Append(nil, &batch.Meta{Count: 64, Publisher: "spiffe://td/client/a"}, blob64())
	var out batch.Batch
	b.ReportAllocs()
	for b.Loop() {
		if _, err := batch.Parse(stored, &out); err != nil {
			b.Fatal(err)
		}
	}
	perRecord(b)
}

// BenchmarkScanWorst is the most work that a MiB can ask for: records full of headers.
func BenchmarkScanWorst(b *testing.B) {
	var r batch.Record
	for i := range 128 {
		r.Headers = append(r.Headers, batch.Header{Name: string([]byte{'a' + byte(i%26), 'a' + byte(i/26)})})
	}
	one := blobOf(r)
	blob := bytes.Repeat(one, 1<<20/len(one))
	b.SetBytes(int64(len(blob)))
	for b.Loop() {
		if _, err := batch.Scan(blob, batch.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAllocations guards the ways of the broker (Scan, Append) and of a consumer (Parse, Records), headers included.
func TestAllocations(t *testing.T) {
	blob := blobOf(batch.Record{Key: []byte("k"), Headers: []batch.Header{{"trace", "0123456789abcdef"}, {"type", "order"}}, Body: make([]byte, 256), TTL: 1e9})
	blob = bytes.Repeat(blob, 64)
	meta := batch.Meta{Count: 64, Publisher: "spiffe://td/client/a"}
	stored := batch.Append(nil, &meta, blob)
	buf := make([]byte, 0, len(stored))
	var out batch.Batch
	var r batch.Record
	lim := batch.DefaultLimits()
	for name, f := range map[string]func(){
		"scan":   func() { _, _ = batch.Scan(blob, lim) },
		"append": func() { batch.Append(buf, &meta, blob) },
		"parse":  func() { _, _ = batch.Parse(stored, &out) },
		"peek":   func() { _, _, _, _ = batch.Peek(stored) },
		"records": func() {
			for c := batch.Records(blob); c.Next(&r); {
			}
		},
		"check": func() { _ = batch.Check(&r, &lim) },
	} {
		f()
		if got := testing.AllocsPerRun(50, f); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
