package snapshot

import (
	"fmt"
	"math"
	"time"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Head says where a snapshot comes from and what it holds. It is encoded as a msgpack array of its fields, in their order;
// the segments are one bin.
type Head struct {
	Cluster  string // id of the cluster; a restored one gets another
	Node     string // that the snapshot was taken from
	Program  string // version of the program that wrote it
	Index    uint64 // raft index: everything up to this entry is in it, nothing behind it
	Term     uint64 // of that entry
	TimeMs   int64  // when it was taken, unix ms
	Segments []Segment
}

// Segment is a line of the list of segments.
type Segment struct {
	First, Last uint64 // cuts that it covers
	From, Index uint64 // raft indexes that it covers
	Records     uint64
	Bytes       uint64 // of stored batches
}

const (
	headFields = 7
	textMax    = 128
)

// Time is when the snapshot was taken.
func (h *Head) Time() time.Time { return time.UnixMilli(h.TimeMs) }

// Totals adds the segments up.
func (h *Head) Totals() (records, bytes uint64) {
	for _, s := range h.Segments {
		records, bytes = records+s.Records, bytes+s.Bytes
	}
	return records, bytes
}

func (h *Head) append(dst []byte) []byte {
	dst = codec.AppendArray(dst, headFields)
	for _, s := range []string{h.Cluster, h.Node, h.Program} {
		dst = codec.AppendStr(dst, s)
	}
	dst = codec.AppendUint(dst, h.Index)
	dst = codec.AppendUint(dst, h.Term)
	dst = codec.AppendInt(dst, h.TimeMs)
	var packed []byte
	for _, s := range h.Segments {
		for _, n := range []uint64{s.First, s.Last, s.From, s.Index, s.Records, s.Bytes} {
			packed = codec.AppendUint(packed, n)
		}
	}
	return codec.AppendBin(dst, packed)
}

// parseHead reads and checks a head.
func parseHead(b []byte) (*Head, error) {
	c := codec.NewCursor(b)
	if n := c.Array(headFields); c.Err() == nil && n != headFields {
		c.Fail(codec.ErrCount)
	}
	h := &Head{Cluster: string(c.Str(textMax)), Node: string(c.Str(textMax)), Program: string(c.Str(textMax)), Index: c.Uint(), Term: c.Uint(), TimeMs: c.Int()}
	packed := codec.NewCursor(c.Bin(len(b)))
	for packed.More() {
		h.Segments = append(h.Segments, Segment{packed.Uint(), packed.Uint(), packed.Uint(), packed.Uint(), packed.UintMax(math.MaxInt64), packed.UintMax(math.MaxInt64)})
	}
	for _, err := range []error{c.Err(), packed.Err()} {
		if err != nil {
			return nil, fmt.Errorf("head: %w: %w", ErrDamaged, err)
		}
	}
	return h, h.check(len(c.Rest()))
}

// check holds a head to what every written one keeps.
func (h *Head) check(trailing int) error {
	n := len(h.Segments)
	switch {
	case trailing > 0:
		return fmt.Errorf("head: %w: %d bytes behind its fields", ErrDamaged, trailing)
	case n == 0 || h.Cluster == "" || h.Node == "":
		return fmt.Errorf("head: %w: no segment, cluster or node", ErrDamaged)
	case h.Segments[n-1].Index != h.Index:
		return fmt.Errorf("head: %w: it is of entry %d, its last segment of entry %d", ErrDamaged, h.Index, h.Segments[n-1].Index)
	}
	for i, s := range h.Segments {
		if s.First == 0 || s.First > s.Last || s.From > s.Index || i > 0 && (s.First <= h.Segments[i-1].Last || s.From <= h.Segments[i-1].Index) {
			return fmt.Errorf("head: %w: segment %d covers cuts %d to %d and entries %d to %d", ErrDamaged, i, s.First, s.Last, s.From, s.Index)
		}
	}
	return nil
}
