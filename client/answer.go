package client

import (
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// verdict is what a refused batch comes to.
type verdict uint8

const (
	sendAgain   verdict = iota // it may be in the log: again with the same numbers
	numberAnew                 // it is not in the log: again under a higher epoch
	failKnown                  // it is not in the log and never will be
	failUnknown                // nobody can tell any more
)

// refusal groups the codes by what a client can do about them.
type refusal uint8

const (
	refusedForGood  refusal = iota // the same batch would be refused again
	refusedForNow                  // the same batch may be accepted later
	refusedSequence                // the log expects other numbers
	refusedStale                   // our picture of the topic is old
)

func refusalOf(c protocol.Code) refusal {
	switch {
	case c == protocol.CodeSequence || c == protocol.CodeFenced:
		return refusedSequence
	case c == protocol.CodeNotFound || c == protocol.CodeRecreated:
		return refusedStale
	case retryable(c):
		return refusedForNow
	}
	return refusedForGood
}

// judge decides about a batch that was answered with an error.
func (q *partition) judge(b *pubBatch, m *protocol.Error) verdict {
	kind := refusalOf(m.Code)
	switch {
	case m.Outcome == protocol.OutcomeUnknown:
		return sendAgain
	case b.unknown:
		return q.judgeUnknown(b, kind)
	case kind == refusedForGood:
		return failKnown
	}
	return numberAnew
}

// judgeUnknown decides about a batch of which an earlier attempt may be in the log.
// That this attempt was refused before the log says nothing about the earlier one;
// only a refusal by its numbers does, and only if numbers ahead of it are known to
// be missing: otherwise the broker may have forgotten the producer.
func (q *partition) judgeUnknown(b *pubBatch, kind refusal) verdict {
	switch {
	case kind == refusedForNow:
		return sendAgain
	case kind == refusedSequence && q.hole < b.seq:
		return numberAnew
	case kind == refusedSequence && q.unresolvedBefore(b):
		return sendAgain
	}
	return failUnknown
}

// takeSentLocked finds the batch that is answered. The batch is nil if nobody waits
// for it any longer.
func (s *session) takeSentLocked(id uint64) (*pubBatch, bool) {
	b, ok := s.pubs[id]
	delete(s.pubs, id)
	s.client.producer.drainedLocked(s)
	return b, ok
}

// onPublished completes a batch.
func (p *producer) onPublished(s *session, id uint64, m *protocol.Published) error {
	p.client.sawApplied(m.Applied)
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := s.takeSentLocked(id)
	if !ok {
		return fmt.Errorf("%w: %v, request %d", errUnwelcome, m.Kind(), id)
	}
	if b == nil {
		return nil
	}
	q := b.queue
	b.base, b.timeMs, b.duplicate = m.Offset, m.TimeMs, m.Duplicate
	p.finishLocked(b, nil)
	q.retry.reset()
	q.settle()
	p.offerLocked(q)
	return nil
}

// onRejected handles an ERROR and says whether it was the answer to a batch.
func (p *producer) onRejected(s *session, id uint64, m *protocol.Error) bool {
	p.mu.Lock()
	b, ok := s.takeSentLocked(id)
	var stale *topicState
	if b != nil {
		stale = p.rejectLocked(b, m)
	}
	p.mu.Unlock()
	if stale != nil {
		p.ask(s, stale)
	}
	return ok
}

// rejectLocked carries out the verdict. It returns the topic if its metadata must be
// asked for.
func (p *producer) rejectLocked(b *pubBatch, m *protocol.Error) (stale *topicState) {
	q := b.queue
	b.last = translate("publish", b.topic, p.client.identity(), m)
	switch q.judge(b, m) {
	case sendAgain:
		q.setState(b, lost)
		b.unknown = true
		p.pauseLocked(q)
	case numberAnew:
		q.setState(b, rejected)
		b.unknown = false
		q.leaveHole(b)
		stale = p.beforeRetryLocked(q, b, m.Code)
	case failKnown:
		q.leaveHole(b)
		p.finishLocked(b, b.last)
	case failUnknown:
		q.renumber = true
		p.finishLocked(b, b.unknownOutcome(b.last))
	}
	q.settle()
	p.offerLocked(q)
	return stale
}

// beforeRetryLocked does what must happen before a rejected batch is sent again:
// nothing if it was only behind another one, else wait and perhaps look at the topic
// anew. It returns the topic if so.
func (p *producer) beforeRetryLocked(q *partition, b *pubBatch, c protocol.Code) *topicState {
	kind := refusalOf(c)
	if kind == refusedSequence && b.seq > 0 {
		return nil
	}
	p.pauseLocked(q)
	if kind != refusedStale || q.topic.refreshing {
		return nil
	}
	q.topic.refreshing = true
	return q.topic
}

// pauseLocked sends nothing of this partition for a while.
func (p *producer) pauseLocked(q *partition) {
	if q.paused {
		return
	}
	q.paused = true
	q.timer = time.AfterFunc(q.retry.next(), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		q.paused = false
		p.offerLocked(q)
	})
}
