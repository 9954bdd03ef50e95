package batch_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/topic"
)

// living makes a stored batch, appended at time 1000, of records with these times to live in ms (0 = none).
func living(base topic.Offset, ttls ...int) []byte {
	var blob []byte
	for _, ttl := range ttls {
		blob = batch.AppendRecord(blob, &batch.Record{Body: bytes.Repeat([]byte{byte(base)}, 50), TTL: time.Duration(ttl) * time.Millisecond})
	}
	info, err := batch.Scan(blob, batch.DefaultLimits())
	if err != nil {
		panic(err)
	}
	return batch.Append(nil, &batch.Meta{Flags: info.Flags, Partition: 1, Base: base, Count: info.Count, TimeMs: 1000, MinTTLMs: info.MinTTLMs, Publisher: "p"}, blob)
}

func TestDropExpired(t *testing.T) {
	forever, brief, mixed, long := living(0, 0, 0), living(2, 10, 5), living(4, 10, 0, 5), living(7, 100)
	join := func(bs ...[]byte) []byte { return bytes.Join(bs, nil) }
	all := join(brief, forever, brief, mixed, long, brief)
	for _, c := range []struct {
		now     int64
		want    []byte
		records uint32
	}{
		{500, all, 12},  // a clock behind the leader's
		{1009, all, 12}, // 5 ms ones are dead, each beside one of 10 ms
		{1010, join(forever, mixed, long), 6},
		{1099, join(forever, mixed, long), 6},
		{1100, join(forever, mixed), 5},
	} {
		got, records, err := batch.DropExpired(bytes.Clone(all), c.now)
		if err != nil || !bytes.Equal(got, c.want) || records != c.records {
			t.Errorf("at %d: %d bytes, %d records, %v; want %d, %d", c.now, len(got), records, err, len(c.want), c.records)
		}
	}
	if got, records, err := batch.DropExpired(bytes.Clone(brief), 1010); err != nil || len(got) != 0 || records != 0 {
		t.Errorf("nothing should be left: %d bytes, %d records, %v", len(got), records, err)
	}
}

// TestDropExpiredDamaged: what would be left out is checked before; what is sent on is checked by who gets it.
func TestDropExpiredDamaged(t *testing.T) {
	b := living(0, 5)
	b[len(b)-1] ^= 1
	if _, _, err := batch.DropExpired(b, 2000); !errors.Is(err, batch.ErrCorrupt) {
		t.Errorf("a damaged batch was left out: %v", err)
	}
	if _, _, err := batch.DropExpired(living(0, 5)[:30], 2000); !errors.Is(err, batch.ErrShort) {
		t.Errorf("half a batch: %v", err)
	}
}

func TestDropExpiredAllocates(t *testing.T) {
	b := bytes.Join([][]byte{living(0, 0, 0), living(2, 100, 0), living(4, 0)}, nil)
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = batch.DropExpired(b, 1050) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
