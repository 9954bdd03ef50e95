package batch_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/batch"
)

// FuzzScan looks for a blob that Scan takes and a consumer then cannot read, or reads as another number of records, or
// that does not come back when its records are encoded again (P-04, P-05).
func FuzzScan(f *testing.F) {
	for _, c := range records {
		f.Add(blobOf(c.r))
	}
	for _, c := range refused {
		f.Add(raw(f, c.blob))
	}
	if len(records) < 7 || len(refused) < 20 {
		f.Fatal("the seeds are gone")
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		info, err := batch.Scan(blob, batch.DefaultLimits())
		c := batch.Records(blob)
		var r batch.Record
		var again []byte
		var got batch.Info
		for c.Next(&r) {
			again = batch.AppendRecord(again, &r)
			got.Count++
			if r.Key != nil {
				got.Flags |= batch.HasKeys
			}
			if ms := uint64(r.TTL.Milliseconds()); ms > 0 {
				got.Flags |= batch.HasTTL
				if got.MinTTLMs == 0 || ms < got.MinTTLMs {
					got.MinTTLMs = ms
				}
			}
		}
		if err != nil {
			return
		}
		if c.Err() != nil || got != info {
			t.Fatalf("scan says %+v, a reader finds %+v, %v", info, got, c.Err())
		}
		if !bytes.Equal(again, blob) {
			t.Fatalf("%x comes back as %x", blob, again)
		}
	})
}

// FuzzParse looks for bytes that pass as a stored batch and are none. Random bytes have no right checksum, so the
// header is fuzzed on its own, too: as what stands between a right frame.
func FuzzParse(f *testing.F) {
	blob := blobOf(batch.Record{Body: []byte("b")})
	for _, m := range metas() {
		f.Add(batch.Append(nil, &m, blob))
	}
	f.Add([]byte{2, 0, 0, 0, 10, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		parse(t, b)
		if len(b) > 9 {
			parse(t, batch.Seal(bytes.Clone(b)))
		}
	})
}

// parse checks what Parse and Peek say of b.
func parse(t *testing.T, b []byte) {
	var out batch.Batch
	rest, err := batch.Parse(b, &out)
	base, count, size, errPeek := batch.Peek(b)
	if err != nil {
		if !errors.Is(err, batch.ErrShort) && !errors.Is(err, batch.ErrVersion) && !errors.Is(err, batch.ErrCorrupt) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	if errPeek != nil || base != out.Base || count != out.Count || size != len(out.Raw) || size+len(rest) != len(b) {
		t.Fatalf("peek says %d %d %d, %v; parse %+v", base, count, size, errPeek, out.Meta)
	}
	again := batch.Append(nil, &out.Meta, out.Records)
	if !bytes.Equal(again, out.Raw) {
		var second batch.Batch
		_, err := batch.Parse(again, &second)
		t.Fatalf("it does not come back: %v %s", err, cmp.Diff(out.Meta, second.Meta))
	}
}
