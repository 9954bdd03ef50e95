package state

import (
	"encoding/binary"
	"iter"
	"math"

	"github.com/RoaringBitmap/roaring/v2"
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/topic"
)

// Cursor is what a group knows of one partition: every record below Floor is settled, and some above it. It never
// changes; its methods may be called by any number of goroutines.
type Cursor struct {
	Floor   topic.Offset
	Lost    uint64 // records that retention took before they were settled
	Retries uint64 // deliveries that failed
	Dead    uint64 // records that went to the dead letters or were put aside

	base     topic.Offset           // of the bitmap's bit 0; Floor-base fits 32 bits
	acked    *roaring.Bitmap        // settled at or above Floor; nil = none
	attempts *iradix.Tree[Attempt]  // of records that failed and are not settled; nil = none
	aside    *iradix.Tree[PutAside] // dead records without a topic for them; nil = none
}

// Attempt is what is known of a record whose delivery failed.
type Attempt struct {
	Count uint64 // deliveries so far
	DueMs int64  // not to be delivered again before this log time, unix ms
}

// PutAside is a dead record that is kept in place, settled but not forgotten.
type PutAside struct {
	Count  uint64 // deliveries
	AtMs   int64  // log time, unix ms
	Reason string
}

// aheadMax is how far above the floor a record can be settled.
const aheadMax = 1 << 31

// Settled says whether nothing is to be done for a record any more.
func (c *Cursor) Settled(at topic.Offset) bool {
	return at < c.Floor || c.acked != nil && at-c.base <= math.MaxUint32 && c.acked.Contains(uint32(at-c.base))
}

// SettledAbove yields the settled records at and above the floor, as ranges [from, end), in order.
func (c *Cursor) SettledAbove() iter.Seq2[topic.Offset, topic.Offset] {
	return func(yield func(from, end topic.Offset) bool) {
		if c.acked == nil {
			return
		}
		for from, end := range c.acked.Ranges() {
			if !yield(c.base+topic.Offset(from), c.base+topic.Offset(end)) {
				return
			}
		}
	}
}

// SettledCount is the number of settled records at and above the floor.
func (c *Cursor) SettledCount() uint64 {
	if c.acked == nil {
		return 0
	}
	return c.acked.GetCardinality()
}

// Attempt looks up how often a record failed.
func (c *Cursor) Attempt(at topic.Offset) Attempt {
	if c.attempts == nil {
		return Attempt{}
	}
	a, _ := c.attempts.Get(offsetKey(at))
	return a
}

// Attempts yields the records that failed and are not settled, in order.
func (c *Cursor) Attempts() iter.Seq2[topic.Offset, Attempt] { return byOffset(c.attempts) }

// AttemptCount is the number of records that Attempts yields.
func (c *Cursor) AttemptCount() int { return size(c.attempts) }

// Aside yields the records that were put aside, in order.
func (c *Cursor) Aside() iter.Seq2[topic.Offset, PutAside] { return byOffset(c.aside) }

// AsideCount is the number of records that Aside yields.
func (c *Cursor) AsideCount() int { return size(c.aside) }

// above is c without what is below low, which nobody can read any more. What was not settled there is lost, and what
// was put aside.
func (c *Cursor) above(low topic.Offset) *Cursor {
	if c.Floor >= low && (size(c.aside) == 0 || first(c.aside) >= low) {
		return c
	}
	n := c.copy()
	if n.Floor < low {
		n.Lost += uint64(low - n.Floor)
		if n.acked != nil {
			n.Lost -= n.acked.CardinalityInRange(0, uint64(low-n.base))
		}
		n.Floor = low
		n.settle(low, low)
		n.attempts = dropBelow(n.attempts, low)
	}
	before := size(n.aside)
	n.aside = dropBelow(n.aside, low)
	n.Lost += uint64(before - size(n.aside))
	return n
}

// copy is a cursor that may change; containers of the bitmap are copied when they do.
func (c *Cursor) copy() *Cursor {
	n := *c
	if n.acked != nil {
		n.acked = n.acked.Clone()
	}
	return &n
}

// settle notes the records [from, end) as settled and moves the floor over what is. c is a copy.
func (c *Cursor) settle(from, end topic.Offset) {
	from = max(from, c.Floor)
	switch {
	case from < end && c.acked == nil && from == c.Floor:
		c.Floor = end
	case from < end:
		c.reach(end)
		c.acked.AddRange(uint64(from-c.base), uint64(end-c.base))
	}
	c.prune()
	if c.acked == nil {
		return
	}
	if at := uint32(c.Floor - c.base); c.acked.Contains(at) {
		c.Floor = c.base + topic.Offset(c.acked.NextAbsentValue(at))
		c.prune()
	}
}

// prune drops the bits below the floor.
func (c *Cursor) prune() {
	if c.acked == nil {
		return
	}
	c.acked.RemoveRange(0, uint64(c.Floor-c.base))
	if c.acked.IsEmpty() {
		c.acked = nil
	}
}

// reach makes sure that the bitmap has room for records below end.
func (c *Cursor) reach(end topic.Offset) {
	switch {
	case c.acked == nil:
		c.base, c.acked = c.Floor, roaring.New()
		c.acked.SetCopyOnWrite(true)
	case end-c.base > math.MaxUint32:
		c.acked = roaring.AddOffset64(c.acked, -int64(c.Floor-c.base))
		c.acked.SetCopyOnWrite(true)
		c.base = c.Floor
	}
}

// retried notes that the delivery number count of a record failed. c is a copy.
func (c *Cursor) retried(at topic.Offset, count uint64, dueMs int64) {
	if old := c.Attempt(at); c.Settled(at) || old.Count >= count {
		return
	}
	c.Retries++
	c.attempts = with(c.attempts, at, Attempt{count, dueMs})
}

// forget drops the attempts of settled records [from, end). c is a copy.
func (c *Cursor) forget(from, end topic.Offset) {
	if c.attempts == nil {
		return
	}
	for at := range byOffsetFrom(c.attempts, from) {
		if at >= end {
			return
		}
		c.attempts = without(c.attempts, at)
	}
}

// Trees by offset: nil where there is nothing.

func offsetKey(at topic.Offset) []byte { return binary.BigEndian.AppendUint64(nil, uint64(at)) }

func keyOffset(key []byte) topic.Offset { return topic.Offset(binary.BigEndian.Uint64(key)) }

func size[T any](t *iradix.Tree[T]) int {
	if t == nil {
		return 0
	}
	return t.Len()
}

func with[T any](t *iradix.Tree[T], at topic.Offset, v T) *iradix.Tree[T] {
	if t == nil {
		t = iradix.New[T]()
	}
	t, _, _ = t.Insert(offsetKey(at), v)
	return t
}

func without[T any](t *iradix.Tree[T], at topic.Offset) *iradix.Tree[T] {
	if size(t) == 0 {
		return nil
	}
	if t, _, _ = t.Delete(offsetKey(at)); t.Len() == 0 {
		return nil
	}
	return t
}

func first[T any](t *iradix.Tree[T]) topic.Offset {
	key, _, _ := t.Root().Minimum()
	return keyOffset(key)
}

func dropBelow[T any](t *iradix.Tree[T], low topic.Offset) *iradix.Tree[T] {
	for size(t) > 0 && first(t) < low {
		t = without(t, first(t))
	}
	return t
}

func byOffset[T any](t *iradix.Tree[T]) iter.Seq2[topic.Offset, T] { return byOffsetFrom(t, 0) }

func byOffsetFrom[T any](t *iradix.Tree[T], from topic.Offset) iter.Seq2[topic.Offset, T] {
	return func(yield func(topic.Offset, T) bool) {
		if t == nil {
			return
		}
		it := t.Root().Iterator()
		it.SeekLowerBound(offsetKey(from))
		for key, v, ok := it.Next(); ok && yield(keyOffset(key), v); key, v, ok = it.Next() {
		}
	}
}
