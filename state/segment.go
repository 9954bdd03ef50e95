package state

import (
	"fmt"
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// Rotate ends the active segment of the log behind the entry that holds it, on every replica; an entry ends one at most. Segment is the number of
// the one to end: a repeat changes nothing.
type Rotate struct {
	Segment uint64
}

const rotateFields = 1

// AppendRotate encodes c.
func AppendRotate(dst []byte, c *Rotate) []byte {
	return codec.AppendUint(appendHead(dst, kindRotate, rotateFields), c.Segment)
}

func decodeRotate(body []byte) (Rotate, error) {
	f, err := openFields(body, kindRotate, rotateFields)
	if err != nil {
		return Rotate{}, err
	}
	c := Rotate{Segment: f.Uint()}
	return c, f.close()
}

func (m *Machine) onRotate(c *Rotate, e *Effects) Result {
	r := Result{Version: m.next.segment}
	switch {
	case c.Segment > m.next.segment:
		r.Status = StatusConflict
		r.Text = fmt.Sprintf("segment %d is active, not %d", m.next.segment, c.Segment)
	case c.Segment == m.next.segment && m.rotated == m.next.applied:
		r.Status = StatusConflict
		r.Text = "this entry ends a segment already: the next one would be empty"
	case c.Segment == m.next.segment:
		m.next.segment++
		m.rotated = m.next.applied
		r.Version = m.next.segment
		e.Rotated = true
	}
	return r
}

// Cut is a new first offset of a partition.
type Cut struct {
	Partition topic.PartitionID
	Low       topic.Offset
}

// Trim raises the first readable offset of partitions: what is below is gone for readers. It never falls and never
// passes the next offset; a partition that does not exist is passed over.
type Trim struct {
	Cuts []Cut
}

// TrimCutsMax is the most cuts of one command: about 256 KiB.
const TrimCutsMax = 10_000

const trimFields = 1

// AppendTrim encodes c: the cuts are one bin of pairs.
func AppendTrim(dst []byte, c *Trim) []byte {
	var packed []byte
	for _, cut := range c.Cuts {
		packed = codec.AppendUint(packed, uint64(cut.Partition))
		packed = codec.AppendUint(packed, uint64(cut.Low))
	}
	return codec.AppendBin(appendHead(dst, kindTrim, trimFields), packed)
}

func decodeTrim(body []byte) (Trim, error) {
	f, err := openFields(body, kindTrim, trimFields)
	if err != nil {
		return Trim{}, err
	}
	pairs := codec.NewCursor(f.Bin(len(body)))
	if err := f.close(); err != nil {
		return Trim{}, err
	}
	var c Trim
	for pairs.More() {
		if len(c.Cuts) == TrimCutsMax {
			return Trim{}, fmt.Errorf("%w: trim of more than %d partitions", ErrMalformed, TrimCutsMax)
		}
		c.Cuts = append(c.Cuts, Cut{topic.PartitionID(pairs.Uint()), topic.Offset(pairs.UintMax(math.MaxInt64))})
	}
	if err := pairs.Err(); err != nil {
		return Trim{}, fmt.Errorf("%w: trim: %w", ErrMalformed, err)
	}
	return c, nil
}

func (m *Machine) onTrim(c *Trim, e *Effects) Result {
	for _, cut := range c.Cuts {
		part := m.parts[cut.Partition]
		if part == nil {
			continue
		}
		if low := min(cut.Low, part.next); low > part.low {
			part.low = low
			m.markDirty(part)
			e.Trimmed = append(e.Trimmed, Cut{part.id, low})
		}
	}
	return Result{}
}
