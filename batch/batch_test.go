package batch_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/batch"
)

// blobOf encodes records.
func blobOf(rs ...batch.Record) []byte {
	var blob []byte
	for i := range rs {
		blob = batch.AppendRecord(blob, &rs[i])
	}
	return blob
}

func TestRoundTrip(t *testing.T) {
	rs := []batch.Record{
		{Body: []byte("plain")},
		{Key: []byte{}, Body: []byte{}},
		{Key: []byte("k"), Headers: []batch.Header{{"a", "1"}, {"ü", ""}}, Body: bytes.Repeat([]byte("x"), 70000), TTL: 3 * time.Second},
	}
	blob := blobOf(rs...)
	info, err := batch.Scan(blob, batch.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if want := (batch.Info{Count: 3, Flags: batch.HasKeys | batch.HasTTL, MinTTLMs: 3000}); info != want {
		t.Errorf("info %+v, want %+v", info, want)
	}
	meta := batch.Meta{Flags: info.Flags, Partition: 7, Base: 1000, Count: 3, TimeMs: 1e12, MinTTLMs: 3000, Publisher: "spiffe://td/client/a", SPKI: [32]byte{1}, PolicyVersion: 4, Producer: [16]byte{9}, Epoch: 2, Sequence: 55,
		Origin: &batch.Origin{Topic: "t", Partition: 1, Offset: 5, TimeMs: 6, Publisher: "p", Reason: "r", Count: 3}}
	stored := batch.Append([]byte("before"), &meta, blob)[6:]
	var got batch.Batch
	rest, err := batch.Parse(append(stored, "behind"...), &got)
	if err != nil || string(rest) != "behind" {
		t.Fatalf("rest %q, %v", rest, err)
	}
	if d := cmp.Diff(meta, got.Meta); d != "" {
		t.Error(d)
	}
	cur := batch.Records(got.Records)
	for i := range rs {
		var r batch.Record
		if !cur.Next(&r) {
			t.Fatalf("record %d: %v", i, cur.Err())
		}
		if len(rs[i].Headers) == 0 {
			r.Headers = nil
		}
		if d := cmp.Diff(rs[i], r); d != "" {
			t.Errorf("record %d: %s", i, d)
		}
	}
	var r batch.Record
	if cur.Next(&r) || cur.Err() != nil {
		t.Error("the walk does not end")
	}
	if base, n, size, err := batch.Peek(stored); base != 1000 || n != 3 || size != len(stored) || err != nil {
		t.Errorf("peek: %d %d %d %v", base, n, size, err)
	}
}

// TestEveryBitCounts flips each bit of a stored batch: none may pass.
func TestEveryBitCounts(t *testing.T) {
	stored := batch.Append(nil, &batch.Meta{Count: 1, Publisher: "p"}, blobOf(batch.Record{Body: []byte("b")}))
	var out batch.Batch
	for i := range len(stored) * 8 {
		stored[i/8] ^= 1 << (i % 8)
		if _, err := batch.Parse(stored, &out); err == nil {
			t.Fatalf("bit %d flipped, and nobody noticed", i)
		}
		stored[i/8] ^= 1 << (i % 8)
	}
	for n := range stored {
		if _, err := batch.Parse(stored[:n], &out); !errors.Is(err, batch.ErrShort) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// TestUnknownHeader checks headers with a right checksum that this version must not read as its own.
func TestUnknownHeader(t *testing.T) {
	records := blobOf(batch.Record{})
	for name, c := range map[string]struct {
		meta batch.Meta
		want error
	}{
		"flag of a later version": {batch.Meta{Flags: 1 << 2, Count: 1}, batch.ErrVersion},
		"another encoding":        {batch.Meta{Flags: 0x10, Count: 1}, batch.ErrVersion},
		"no records":              {batch.Meta{}, batch.ErrCorrupt},
		"negative base":           {batch.Meta{Base: -1, Count: 1}, batch.ErrCorrupt},
		"offsets run over":        {batch.Meta{Base: 1<<63 - 1, Count: 2}, batch.ErrCorrupt},
		"publisher too long":      {batch.Meta{Count: 1, Publisher: strings.Repeat("x", 2101)}, batch.ErrCorrupt},
	} {
		var out batch.Batch
		if _, err := batch.Parse(batch.Append(nil, &c.meta, records), &out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	stored := batch.Append(nil, &batch.Meta{Count: 1}, records)
	for name, header := range map[string]byte{"a field less": 0x9c, "a field more": 0x9e, "not an array": 0x8d} {
		bad := bytes.Clone(stored)
		bad[9] = header
		var out batch.Batch
		if _, err := batch.Parse(batch.Seal(bad), &out); !errors.Is(err, batch.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stored[0] = 2
	for name, b := range map[string][]byte{"whole": stored, "head": stored[:9]} {
		if _, _, _, err := batch.Peek(b); !errors.Is(err, batch.ErrVersion) {
			t.Errorf("version 2, %s: %v", name, err)
		}
	}
}
