package broker

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/broker/lease"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// registerWait is how long after an election nothing is handed out, so that members can say what they hold (DESIGN section 4).
const registerWait = 2 * time.Second

// deadReason is why a record is put aside that was delivered too often.
const deadReason = "delivered too often"

// groups is what a node knows of consumer groups while it leads.
type groups struct {
	mu     sync.Mutex
	term   uint64                     // Guarded by mu. 0 = this node does not lead.
	since  time.Time                  // Guarded by mu. When that was noticed.
	tables map[state.GroupID]*leasing // Guarded by mu.
}

// leasing is one group on the leader. Its lock is taken after no other.
type leasing struct {
	s      *Server
	name   topic.Name
	id     state.GroupID
	resets uint64
	openAt time.Time // before, nothing is handed out

	mu         sync.Mutex
	ended      bool                       // Guarded by mu. This node does not lead any more.
	table      *lease.Table               // Guarded by mu.
	generation uint64                     // Guarded by mu. Of topics, as the table has them.
	members    map[lease.Member]*consumer // Guarded by mu.
}

// lookGroups follows who leads: leases are of one term.
func (s *Server) lookGroups(now time.Time) {
	term := uint64(0)
	if _, self := s.options.Group.Leader(); self {
		term = s.options.Group.Status().Term
	}
	s.groups.mu.Lock()
	var ended map[state.GroupID]*leasing
	if term != s.groups.term {
		ended = s.groups.tables
		s.groups.term, s.groups.since, s.groups.tables = term, now, map[state.GroupID]*leasing{}
	}
	s.groups.mu.Unlock()
	for _, l := range ended {
		l.end()
	}
}

// leasing finds or makes the leases of a group; nil = this node does not lead.
func (s *Server) leasing(g *state.Group) *leasing {
	s.groups.mu.Lock()
	defer s.groups.mu.Unlock()
	if s.groups.term == 0 {
		return nil
	}
	l := s.groups.tables[g.ID]
	if l == nil || l.resets != g.Resets {
		l = &leasing{s: s, name: g.Name, id: g.ID, resets: g.Resets, members: map[lease.Member]*consumer{},
			table: lease.New(time.Duration(g.Spec.AckWaitMs)*time.Millisecond, int(min(g.Spec.MaxInFlight, 1<<30)))}
		if g.CreatedMs < s.groups.since.UnixMilli() { // else nobody can hold a record of it
			l.openAt = s.groups.since.Add(registerWait)
		}
		s.groups.tables[g.ID] = l
	}
	return l
}

// end tells all members that this node does not lead any more.
func (l *leasing) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.wakeLocked()
}

func (l *leasing) wakeLocked() {
	for _, k := range l.members {
		k.signal()
	}
}

// join makes a consumer the connection of its member.
func (l *leasing) join(k *consumer, records []protocol.HeldRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.members[k.member]; old != nil {
		old.cancel(errUnsubscribed)
	}
	l.members[k.member] = k
	now, view, subject := time.Now(), l.s.options.Group.View(), k.c.subject()
	for _, h := range records {
		id, at := topic.PartitionID(h.ID), topic.Offset(h.Offset)
		if p, _ := view.Partition(id); !subject.Decide(policy.Consume, p.Topic).Allow || at >= p.Next {
			continue
		}
		if c, ok := view.Cursor(l.id, id); ok && !c.Settled(at) && h.Attempt > 0 {
			l.table.Register(now, k.member, lease.Record{Partition: id, Offset: at}, h.Attempt)
		}
	}
}

// leave ends a consumer. Unless its member has come back over another connection, its records are for others.
func (l *leasing) leave(k *consumer) {
	l.mu.Lock()
	if l.members[k.member] != k {
		l.mu.Unlock()
		return
	}
	delete(l.members, k.member)
	ended := l.table.Leave(k.member)
	l.mu.Unlock()
	l.failed(k, ended, false)
}

// source reads the state as it is now.
func (l *leasing) source(view *state.View) lease.Source {
	return func(id topic.PartitionID) (*state.Cursor, topic.Offset, bool) {
		c, ok := view.Cursor(l.id, id)
		if !ok {
			return nil, 0, false
		}
		part, _ := view.Partition(id)
		return c, part.Next, true
	}
}

// take hands records to a consumer, ends deliveries whose time is up, and says when to look again.
func (l *leasing) take(k *consumer, g *state.Group, view *state.View, may func(topic.PartitionID) bool) (grants []lease.Grant, again time.Time) {
	l.mu.Lock()
	now := time.Now()
	if l.generation != view.Generation() {
		l.generation = view.Generation()
		l.table.SetParts(partitionsOf(view, g), l.source(view))
	}
	ended := l.table.Expire(now)
	switch {
	case now.Before(l.openAt):
		again = l.openAt
	case !g.Paused:
		grants = l.table.Take(now, k.member, k.window-l.table.Held(k.member), l.source(view), may)
	}
	if due := l.table.Due(); again.IsZero() || !due.IsZero() && due.Before(again) {
		again = due
	}
	l.mu.Unlock()
	l.failed(k, ended, true)
	return grants, again
}

func partitionsOf(view *state.View, g *state.Group) (ids []topic.PartitionID) {
	view.TopicsOf(&g.Spec, func(t *state.Topic) bool {
		ids = append(ids, t.Partitions...)
		return true
	})
	return ids
}

// giveBack takes records back that were never sent.
func (l *leasing) giveBack(g lease.Grant, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range g.Count {
		l.table.Done(lease.Record{Partition: g.Partition, Offset: g.Offset + topic.Offset(i)}, now)
	}
	l.wakeLocked()
}

// failed proposes that deliveries are over without an acknowledgement.
func (l *leasing) failed(k *consumer, ended []lease.Ended, late bool) {
	g, ok := l.s.options.Group.View().Group(l.name)
	if !ok || g.ID != l.id {
		return
	}
	for batch := range slices.Chunk(ended, state.SettleItemsMax) {
		var items []state.Settlement
		for _, e := range batch {
			s := state.Settlement{Op: state.SettleRetry, Partition: e.Partition, Offset: e.Offset, Count: 1, Attempt: e.Attempt}
			if late {
				s.DelayMs = backoff(&g.Spec, e.Attempt)
			}
			items = append(items, limited(&g.Spec, s))
		}
		l.propose(k, items, func(*fault, uint64) {})
	}
}

// backoff is the delay behind a delivery: that of the group, give or take a tenth.
func backoff(spec *state.GroupSpec, attempt uint64) uint64 {
	if len(spec.BackoffMs) == 0 {
		return 0
	}
	ms := spec.BackoffMs[min(attempt-1, uint64(len(spec.BackoffMs)-1))]
	return ms - ms/10 + rand.Uint64N(ms/5+1)
}

// limited makes the last delivery of a record its end.
func limited(spec *state.GroupSpec, s state.Settlement) state.Settlement {
	if spec.MaxDeliver == 0 || s.Attempt < spec.MaxDeliver {
		return s
	}
	s.Op, s.DelayMs, s.Letter = state.SettleDead, 0, &state.Letter{Reason: deadReason}
	return s
}

// propose sends settlements that the table has marked to the log, in the next entry like everything else, and tells the table what
// became of them. done gets the index, or why not; it must not block.
func (l *leasing) propose(k *consumer, items []state.Settlement, done func(*fault, uint64)) {
	cmd := state.AppendSettle(nil, &state.Settle{Group: l.name, ID: l.id, Resets: l.resets, By: string(k.c.peer.Principal), SPKI: k.c.peer.SPKI, PolicyVersion: l.s.Policy().Version(), Items: items})
	l.s.options.Group.Propose(cmd, func(r state.Result, index uint64, err error) {
		var f *fault
		if err != nil {
			f = l.s.faultOf(err)
		} else {
			f = resultFault(&r)
		}
		l.settled(items, f == nil)
		done(f, index)
	})
}

// settled takes over what became of settlements.
func (l *leasing) settled(items []state.Settlement, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for i := range items {
		s := &items[i]
		r := lease.Record{Partition: s.Partition, Offset: s.Offset}
		switch {
		case !ok:
			l.table.Undo(now, r)
		case s.Op == state.SettleRetry:
			l.table.Done(r, now.Add(time.Duration(s.DelayMs)*time.Millisecond))
		default:
			l.table.Done(r, time.Time{})
		}
	}
	l.wakeLocked()
}
