package client

import (
	"math"
	"slices"
	"time"
)

// The rules of sending (DESIGN sections 4 and 5).
const (
	eagerBatches = 4        // fewer in flight than this: send whatever is there
	eagerBytes   = 64 << 10 // a batch of this size is sent without waiting
	inFlightMax  = 64       // the broker remembers this many batches per producer and partition
)

const noHole = math.MaxUint64

// partition queues the batches of one partition. All of it is guarded by
// producer.mu.
//
//	batches   sent sent lost sent rejected | queued queued open
//	                             numbered -^
//
// Numbers are handed out when a batch is first sent and stay with it until its
// outcome is known, so that a resend is recognised by the broker. A definite
// rejection leaves a hole in the numbers, and everything behind it is rejected too;
// then nothing new is sent until every sent batch has its outcome, and what is left
// is numbered anew, from 0, under a higher epoch that fences the old numbers.
type partition struct {
	topic *topicState
	num   uint32

	batches  []*pubBatch // unresolved, in the order of their records
	numbered int         // batches[:numbered] have numbers
	open     *pubBatch   // the last of batches while records may be added

	sent, lost, rejected int // batches[:numbered] by state

	epoch    uint64
	next     uint64 // sequence of the next record
	renumber bool   // drain, then number anew
	hole     uint64 // lowest sequence of this epoch known to be in no log, or noHole

	ready  bool // in producer.ready
	paused bool // until timer resumes it
	retry  backoff
	timer  *time.Timer
}

// sendable says whether there is a batch to send now.
func (q *partition) sendable() bool {
	switch {
	case q.paused || q.topic.refreshing:
		return false
	case q.lost > 0:
		return true
	case q.renumber || q.numbered == len(q.batches) || q.sent >= inFlightMax:
		return false
	}
	b := q.batches[q.numbered]
	return q.sent < eagerBatches || b != q.open || len(b.blob) >= eagerBytes
}

// pop takes the batch to be sent next and numbers it if it is new. Call it only when
// sendable.
func (q *partition) pop() *pubBatch {
	if q.lost > 0 {
		i := slices.IndexFunc(q.batches, func(b *pubBatch) bool { return b.state == lost })
		b := q.batches[i]
		q.lost--
		q.sent++
		b.state = sent
		return b
	}
	b := q.batches[q.numbered]
	if b == q.open {
		q.open = nil
	}
	b.inc, b.epoch, b.seq = q.topic.inc, q.epoch, q.next
	b.state = sent
	q.next += uint64(b.count)
	q.numbered++
	q.sent++
	return b
}

// setState moves a numbered batch from one state to another.
func (q *partition) setState(b *pubBatch, to batchState) {
	q.count(b.state, -1)
	q.count(to, +1)
	b.state = to
}

func (q *partition) count(s batchState, by int) {
	switch s {
	case sent:
		q.sent += by
	case lost:
		q.lost += by
	case rejected:
		q.rejected += by
	}
}

// remove takes a batch whose outcome is known out of the queue.
func (q *partition) remove(b *pubBatch) {
	i := slices.Index(q.batches, b)
	q.count(b.state, -1)
	if b.state != queued {
		q.numbered--
	}
	if b == q.open {
		q.open = nil
	}
	if i == 0 { // the usual case: no copying
		q.batches[0] = nil
		q.batches = q.batches[1:]
		return
	}
	q.batches = slices.Delete(q.batches, i, i+1)
}

// leaveHole notes that b's numbers are in no log.
func (q *partition) leaveHole(b *pubBatch) {
	q.renumber = true
	q.hole = min(q.hole, b.seq)
}

// settle numbers anew once every sent batch has its outcome.
func (q *partition) settle() {
	if !q.renumber || q.sent+q.lost > 0 {
		return
	}
	for _, b := range q.batches[:q.numbered] {
		b.state = queued
	}
	q.epoch++
	q.next, q.numbered, q.rejected = 0, 0, 0
	q.renumber, q.hole = false, noHole
}

// connectionLost makes every unanswered batch one to be sent again as it is.
func (q *partition) connectionLost(err error) {
	for _, b := range q.batches[:q.numbered] {
		if b.state == sent {
			q.setState(b, lost)
			b.unknown, b.last = true, err
		}
	}
}

// unresolvedBefore says whether a batch ahead of b still has no outcome.
func (q *partition) unresolvedBefore(b *pubBatch) bool {
	for _, a := range q.batches {
		if a == b {
			return false
		}
		if a.state == sent || a.state == lost {
			return true
		}
	}
	return false
}
