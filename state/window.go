package state

import (
	"fmt"
	"slices"

	"github.com/waxwing-mq/waxwing/topic"
)

// window remembers the last WindowBatches batches of one producer in one partition,
// under its latest epoch there. Epochs are compared per partition: starting a new one
// in a partition fences the old one there and leaves batches in flight to others alone.
type window struct {
	epoch uint64
	next  uint64 // the sequence that the next batch must carry
	ring  []sent // grows to WindowBatches, then the oldest is overwritten
	head  int    // index of the oldest once the ring is full

	generation uint64 // of the checkpoint behind which it was made: an older one is shared with a checkpoint
}

// clone is a copy that may change.
func (w *window) clone(generation uint64) *window {
	c := *w
	c.ring, c.generation = slices.Clone(w.ring), generation
	return &c
}

// sent is one appended batch. Its sequence follows from window.next and the counts
// behind it, because a window has no gaps.
type sent struct {
	offset topic.Offset
	timeMs int64
	count  uint32
}

// verdict decides on a publish: ok means append it. w is nil where the producer has
// not written yet.
func (w *window) verdict(c *publish) (r Result, ok bool) {
	switch {
	case w == nil || c.epoch > w.epoch:
		if c.sequence == 0 {
			return r, true
		}
		r.Status = StatusSequence
		r.Text = fmt.Sprintf("sequence %d, but a producer that is new here or was forgotten, and a new epoch, begins at 0", c.sequence)
		return r, false
	case c.epoch < w.epoch:
		r.Status = StatusFenced
		r.Text = fmt.Sprintf("epoch %d is over: this producer has started epoch %d here", c.epoch, w.epoch)
		return r, false
	case c.sequence == w.next:
		return r, true
	}
	if s, ok := w.find(c.sequence, c.info.Count); ok {
		return Result{Status: StatusDuplicate, Offset: s.offset, TimeMs: s.timeMs}, false
	}
	r.Status = StatusSequence
	r.Text = fmt.Sprintf("sequence %d with %d records is neither the next (%d) nor a repeat of one of the last %d batches", c.sequence, c.info.Count, w.next, WindowBatches)
	return r, false
}

// push remembers an appended batch. A higher epoch starts anew.
func (w *window) push(epoch uint64, s sent) {
	if epoch > w.epoch {
		*w = window{epoch: epoch, ring: w.ring[:0], generation: w.generation}
	}
	w.next += uint64(s.count)
	if len(w.ring) < WindowBatches {
		w.ring = append(w.ring, s)
		return
	}
	w.ring[w.head] = s
	w.head = (w.head + 1) % WindowBatches
}

// find returns the batch with this base sequence and count.
func (w *window) find(sequence uint64, count uint32) (sent, bool) {
	base := w.next
	for i := len(w.ring) - 1; i >= 0 && base > sequence; i-- {
		s := w.at(i)
		base -= uint64(s.count)
		if base == sequence {
			return s, s.count == count
		}
	}
	return sent{}, false
}

// at returns the i-th batch, the oldest first.
func (w *window) at(i int) sent { return w.ring[(w.head+i)%len(w.ring)] }
