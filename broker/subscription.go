package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

var errUnsubscribed = errors.New("unsubscribed")

// deliverBytes is about how much one DELIVER frame carries; a larger batch travels alone.
const deliverBytes = 256 << 10

// subscription delivers the records of its partitions, as far as its credit goes. Its loop is one
// goroutine; what it waits for (records, credit, room, changes) arrives as a signal.
type subscription struct {
	c        *conn
	id       uint64
	patterns []topic.Pattern
	only     int64 // only this partition of each topic, or -1
	ctx      context.Context
	cancel   context.CancelCauseFunc
	wake     chan struct{} // cap 1
	done     chan struct{} // closed when the loop has ended

	// Owned by loop.
	cursors    map[cursorKey]*cursor
	generation uint64         // of topics, as last seen
	policy     *policy.Policy // as last seen
	buf        []byte
	stale      []protocol.Cursor // cursors of SUBSCRIBE whose partition is gone

	mu      sync.Mutex
	ready   []*cursor // Guarded by mu. Cursors with records, each once, served from the front.
	bytes   int64     // Guarded by mu. Credit; may go below 0 by one batch.
	records int64     // Guarded by mu.
}

// cursorKey is one partition of one incarnation.
type cursorKey struct {
	name        topic.Name
	incarnation topic.Incarnation
	partition   uint32
}

// cursor is a subscription's place in a partition.
type cursor struct {
	key     cursorKey
	id      topic.PartitionID
	next    topic.Offset
	waiter  storage.Waiter
	queued  bool // Guarded by subscription.mu. It stands in ready.
	removed bool // Owned by loop.
}

func newSubscription(c *conn, m *protocol.Subscribe, patterns []topic.Pattern) *subscription {
	s := &subscription{
		c: c, id: m.Sub, patterns: patterns, only: -1,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		cursors: map[cursorKey]*cursor{},
		bytes:   clampCredit(m.CreditBytes), records: clampCredit(m.CreditRecords),
	}
	if m.HasPartition {
		s.only = int64(m.OnlyPartition)
	}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	return s
}

// clampCredit keeps sums of credit inside int64.
func clampCredit(n uint64) int64 { return int64(min(n, math.MaxInt64/4)) }

// begin finds the partitions of a new subscription and where each starts.
func (s *subscription) begin(m *protocol.Subscribe) *fault {
	view := s.c.s.options.Group.View()
	if s.ahead(view, m.Cursors) {
		if !s.c.s.options.Group.Leads() {
			return &fault{code: protocol.CodeNotCaughtUp, text: "a cursor is of a place that this node has not applied yet; try again or ask the leader"}
		}
		view = s.c.s.options.Group.View()
	}
	s.generation, s.policy = view.Generation(), s.c.s.Policy()
	pinned := map[cursorKey]topic.Offset{}
	for _, p := range m.Cursors {
		s.stale = append(s.stale, p)
		pinned[cursorKey{topic.Name(p.Topic), topic.Incarnation(p.Incarnation), p.Partition}] = topic.Offset(p.Offset)
	}
	var f *fault
	s.eachPartition(view, func(key cursorKey, id topic.PartitionID) bool {
		p, _ := view.Partition(id)
		at, ok := pinned[key]
		if !ok {
			if at, f = s.c.s.startOf(m.Start, m.Value, id, p); f != nil {
				return false
			}
		} else if end := s.c.s.options.Log.End(id); at < 0 || at > end {
			f = &fault{code: protocol.CodeOutOfRange, text: fmt.Sprintf("cursor offset %d of %s is beyond the end %d", at, key.name, end)}
			return false
		}
		s.add(key, id, at)
		s.stale = slices.DeleteFunc(s.stale, func(p protocol.Cursor) bool {
			return p.Topic == string(key.name) && p.Incarnation == uint64(key.incarnation) && p.Partition == key.partition
		})
		if most := s.c.s.options.Limits.PartitionsPerSubscription; len(s.cursors) > most {
			f = limitFault("partitions_per_subscription", most)
			return false
		}
		return true
	})
	if f == nil && m.Start == protocol.StartOffset && len(m.Cursors) == 0 && len(s.cursors) != 1 {
		f = invalid("a start offset needs exactly one partition, the subscription has %d; name topic and partition", len(s.cursors))
	}
	return f
}

// ahead says whether a cursor is of a place that the state does not know: a node that has applied more may have served its
// client until now. Incarnations rise, and partitions of a topic stay.
func (s *subscription) ahead(view *state.View, cursors []protocol.Cursor) bool {
	return slices.ContainsFunc(cursors, func(p protocol.Cursor) bool {
		t, there := view.Topic(topic.Name(p.Topic))
		switch {
		case topic.Incarnation(p.Incarnation) >= view.NextIncarnation():
			return true
		case !there || uint64(t.Incarnation) != p.Incarnation:
			return false
		}
		return uint64(p.Partition) >= uint64(len(t.Partitions)) || topic.Offset(p.Offset) > s.c.s.options.Log.End(t.Partitions[p.Partition])
	})
}

// eachPartition calls f for the partitions that patterns match and the policy allows.
func (s *subscription) eachPartition(view *state.View, f func(cursorKey, topic.PartitionID) bool) {
	subject := s.policy.For(string(s.c.peer.Principal))
	visit := func(t *state.Topic) bool {
		if !subject.Decide(policy.Subscribe, t.Name).Allow {
			return true
		}
		for i, id := range t.Partitions {
			if s.only >= 0 && int64(i) != s.only {
				continue
			}
			if !f(cursorKey{t.Name, t.Incarnation, uint32(i)}, id) {
				return false
			}
		}
		return true
	}
	if names, ok := literals(s.patterns); ok {
		for _, name := range names {
			if t, there := view.Topic(name); there && !visit(t) {
				return
			}
		}
		return
	}
	view.Topics("", func(t *state.Topic) bool { return !s.matches(t.Name) || visit(t) })
}

// literals returns the names if no pattern has a wildcard: then there is nothing to search.
func literals(patterns []topic.Pattern) ([]topic.Name, bool) {
	var names []topic.Name
	for _, p := range patterns {
		name, ok := p.Literal()
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

func (s *subscription) matches(name topic.Name) bool {
	for _, p := range s.patterns {
		if p.Match(name) {
			return true
		}
	}
	return false
}

// add makes a cursor; a partition that two patterns match has one.
func (s *subscription) add(key cursorKey, id topic.PartitionID, at topic.Offset) bool {
	if s.cursors[key] != nil {
		return false
	}
	cur := &cursor{key: key, id: id, next: at}
	cur.waiter = storage.Waiter{Partition: id, Wake: func() { s.enqueue(cur) }}
	s.cursors[key] = cur
	return true
}

// remove forgets a cursor.
func (s *subscription) remove(cur *cursor) {
	cur.removed = true
	s.c.s.options.Log.Cancel(&cur.waiter)
	delete(s.cursors, cur.key)
}

// enqueue puts a cursor that has records into the queue. It is called by the log, too.
func (s *subscription) enqueue(cur *cursor) {
	s.mu.Lock()
	if !cur.queued {
		cur.queued = true
		s.ready = append(s.ready, cur)
	}
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// grant adds credit.
func (s *subscription) grant(bytes, records uint64) {
	s.mu.Lock()
	s.bytes = min(s.bytes+clampCredit(bytes), math.MaxInt64/2)
	s.records = min(s.records+clampCredit(records), math.MaxInt64/2)
	s.mu.Unlock()
	s.signal()
}

// spend takes credit.
func (s *subscription) spend(bytes int, records uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= int64(bytes)
	s.records -= int64(records)
}

// next returns the cursor to serve and how many bytes it may have, or nil.
func (s *subscription) next() (*cursor, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 || s.bytes <= 0 || s.records <= 0 {
		return nil, 0
	}
	cur := s.ready[0]
	s.ready = s.ready[1:]
	if len(s.ready) == 0 {
		s.ready = nil
	}
	cur.queued = false
	return cur, int(min(s.bytes, deliverBytes))
}
