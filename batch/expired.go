package batch

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Expired says whether the time to live of a record of this batch has passed at nowMs (unix ms). It counts from the
// append time; a record without one lives as long as its topic keeps it.
func (m *Meta) Expired(r *Record, nowMs int64) bool {
	return r.TTL > 0 && nowMs-m.TimeMs >= r.TTL.Milliseconds()
}

// DropExpired takes those batches out of b, which holds whole ones, of which every record has expired at nowMs; one
// with a living record stays whole. It moves bytes within b, and counts the records that are left. Damaged bytes
// are an error.
func DropExpired(b []byte, nowMs int64) (left []byte, records uint32, err error) {
	rest, kept := b, 0
	for len(rest) > 0 {
		size, count, dead, err := firstDead(rest, nowMs)
		if err != nil {
			return nil, 0, err
		}
		if !dead {
			if at := len(b) - len(rest); at > kept {
				copy(b[kept:], rest[:size])
			}
			kept += size
			records += count
		}
		rest = rest[size:]
	}
	return b[:kept], records, nil
}

// firstDead measures the first batch of b and says whether every record of it has expired. Most are known to live by
// their header, without a look at CRC or records.
func firstDead(b []byte, nowMs int64) (size int, count uint32, dead bool, err error) {
	if size, err = sizeOf(b); err != nil {
		return 0, 0, false, err
	}
	m := Batch{}
	c := codec.NewCursor(b[headerAt:size])
	parseLife(&c, &m.Meta)
	if err := c.Err(); err != nil {
		return 0, 0, false, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if m.MinTTLMs == 0 || nowMs-m.TimeMs < int64(m.MinTTLMs) {
		return size, m.Count, false, nil
	}
	if _, err := Parse(b, &m); err != nil {
		return 0, 0, false, err
	}
	dead, err = m.dead(nowMs)
	return size, m.Count, dead, err
}

// dead says whether every record has expired.
func (b *Batch) dead(nowMs int64) (bool, error) {
	var r Record
	c := Records(b.Records)
	for c.Next(&r) {
		if !b.Expired(&r, nowMs) {
			return false, nil
		}
	}
	return c.Err() == nil, c.Err()
}
