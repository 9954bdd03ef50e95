package broker

import (
	"context"
	"errors"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/lease"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// consumerWindowMax is how many records a member can hold.
const consumerWindowMax = 10_000

// consumer is a member of a group on its connection. Its loop is one goroutine, as a subscription's is.
type consumer struct {
	c       *conn
	sub     uint64
	member  lease.Member
	window  int
	leasing *leasing
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wake    chan struct{} // cap 1
	done    chan struct{} // closed when the loop has ended

	// Owned by loop.
	buf     []byte
	waiters map[topic.PartitionID]*storage.Waiter
}

// onConsume makes the client a member of a group. The leader has the leases: other nodes name it.
func (c *conn) onConsume(id uint64, m *protocol.Consume) (protocol.Message, *fault) {
	name, f := c.groupName(policy.Consume, m.Group)
	if f != nil {
		return nil, f
	}
	switch {
	case m.Window == 0 || m.Window > consumerWindowMax:
		return nil, invalid("a window of %d records; from 1 to %d", m.Window, consumerWindowMax)
	case !c.s.options.Group.Leads():
		return nil, errElsewhere
	}
	g, ok := c.s.options.Group.View().Group(name)
	if !ok {
		return nil, noGroup(name)
	}
	l := c.s.leasing(g)
	if l == nil {
		return nil, errElsewhere
	}
	k := &consumer{c: c, sub: m.Sub, member: lease.Member(m.Member), window: int(m.Window), leasing: l, wake: make(chan struct{}, 1), done: make(chan struct{}), waiters: map[topic.PartitionID]*storage.Waiter{}}
	k.ctx, k.cancel = context.WithCancelCause(c.ctx)
	if f := c.addConsumer(k); f != nil {
		return nil, f
	}
	l.join(k, m.Held)
	c.out.push(&protocol.OK{Applied: c.s.options.Group.View().Applied()}, id)
	c.work.Go(k.loop)
	return nil, nil
}

var errElsewhere = &fault{code: protocol.CodeNotLeader, outcome: protocol.OutcomeRejected, text: "groups are consumed at the leader, and this node is not it; connect to the leader"}

// addConsumer registers it under its number.
func (c *conn) addConsumer(k *consumer) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return errShutdown
	case c.subs[k.sub] != nil || c.consumers[k.sub] != nil:
		return invalid("subscription %d is open already; choose another number", k.sub)
	case len(c.subs)+len(c.consumers) >= c.s.options.Limits.Subscriptions:
		return limitFault("subscriptions", c.s.options.Limits.Subscriptions)
	}
	if c.consumers == nil {
		c.consumers = map[uint64]*consumer{}
	}
	c.consumers[k.sub] = k
	return nil
}

func (c *conn) removeConsumer(k *consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.consumers[k.sub] == k {
		delete(c.consumers, k.sub)
	}
}

func (c *conn) consumer(id uint64) *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.consumers[id]
}

func (k *consumer) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// loop delivers until the member, its connection, or the leadership of this node ends.
func (k *consumer) loop() {
	defer close(k.done)
	defer k.leasing.leave(k)
	defer k.c.removeConsumer(k)
	defer k.cancelWaiters()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		again, f := k.turn()
		if f != nil {
			k.c.s.metrics.failed(f)
			k.c.out.push(&protocol.Event{Type: protocol.EventSubClosed, Sub: k.sub, Code: f.code, Text: f.text}, 0)
			return
		}
		wait := time.Hour
		if !again.IsZero() {
			wait = max(time.Until(again), time.Millisecond)
		}
		timer.Reset(wait)
		select {
		case <-k.wake:
		case <-timer.C:
		case <-k.ctx.Done():
			return
		}
	}
}

func (k *consumer) cancelWaiters() {
	for _, w := range k.waiters {
		k.c.s.options.Log.Cancel(w)
	}
}

// turn delivers what the member may have now, and says when to look again without a signal.
func (k *consumer) turn() (again time.Time, f *fault) {
	s, l := k.c.s, k.leasing
	if !k.c.out.hasRoom() {
		return time.Time{}, nil
	}
	view := s.options.Group.View()
	g, f := k.group(view)
	if f != nil {
		return time.Time{}, f
	}
	subject := k.c.subject()
	if f := k.c.mayConsume(l.name); f != nil {
		return time.Time{}, f
	}
	if err := s.options.Group.WaitApplied(k.ctx, view.Applied()); err != nil { // the view is known before the records are readable
		return time.Time{}, nil
	}
	k.await(view, g)
	grants, again := l.take(k, g, view, func(id topic.PartitionID) bool {
		p, ok := view.Partition(id)
		return ok && subject.Decide(policy.Consume, p.Topic).Allow
	})
	for _, grant := range grants {
		if f := k.deliver(view, grant); f != nil {
			return time.Time{}, f
		}
	}
	return again, nil
}

// group is the group as it is now, or why its members have to come again.
func (k *consumer) group(view *state.View) (*state.Group, *fault) {
	l := k.leasing
	l.mu.Lock()
	ended := l.ended
	l.mu.Unlock()
	g, ok := view.Group(l.name)
	switch {
	case ended:
		return nil, errElsewhere
	case !ok || g.ID != l.id:
		return nil, noGroup(l.name)
	case g.Resets != l.resets:
		return nil, &fault{code: protocol.CodeNotLeader, text: "the group was reset; come again"}
	}
	return g, nil
}

// await asks for a signal when a partition has a record that nobody has looked at.
func (k *consumer) await(view *state.View, g *state.Group) {
	for _, id := range partitionsOf(view, g) {
		w := k.waiters[id]
		if w == nil {
			w = &storage.Waiter{Partition: id, Wake: k.signal}
			k.waiters[id] = w
		}
		k.c.s.options.Log.Cancel(w)
		part, _ := view.Partition(id)
		w.From = part.Next
		if !k.c.s.options.Log.Await(w) {
			k.signal()
		}
	}
}

// deliver sends the records of a grant.
func (k *consumer) deliver(view *state.View, g lease.Grant) *fault {
	part, _ := view.Partition(g.Partition)
	for g.Count > 0 {
		buf, next, _, err := k.c.s.options.Log.Read(g.Partition, g.Offset, deliverBytes, k.buf[:0])
		k.buf = buf
		switch {
		case errors.Is(err, storage.ErrTrimmed), errors.Is(err, storage.ErrClosed): // the state will say that they are lost
			k.leasing.giveBack(g, time.Now().Add(time.Second))
			return nil
		case err != nil:
			return k.c.s.faultOf(err)
		case k.c.s.catchUp(): // a right may have ended: look again
			k.leasing.giveBack(g, time.Now())
			return nil
		}
		for len(buf) > 0 && g.Count > 0 {
			var b batch.Batch
			if buf, err = batch.Parse(buf, &b); err != nil {
				return k.c.s.faultOf(err)
			}
			k.send(&part, &b, &g)
		}
		if next <= g.Offset && g.Count > 0 {
			break
		}
	}
	if cap(k.buf) > 2*deliverBytes {
		k.buf = nil
	}
	return nil
}

// send sends the granted records of one batch, and takes them off the grant. What has expired is settled instead.
func (k *consumer) send(part *state.Partition, b *batch.Batch, g *lease.Grant) {
	var expired []state.Settlement
	m := protocol.Leased{Sub: k.sub, Topic: string(part.Topic), Partition: part.Index, Incarnation: uint64(part.Incarnation), ID: uint64(part.ID),
		Attempt: g.Attempt, TimeMs: b.TimeMs, Publisher: b.Publisher, SPKI: b.SPKI[:], PolicyVer: b.PolicyVersion}
	flush := func() {
		if m.Count > 0 {
			k.c.out.push(&m, 0)
			k.c.s.metrics.delivered.Add(float64(m.Count))
			k.c.s.metrics.deliveredB.Add(float64(len(m.Records)))
			m.Count, m.Records = 0, nil
		}
	}
	records, left := batch.Records(b.Records), b.Records
	var r batch.Record
	now := time.Now().UnixMilli()
	for at := b.Base; at < b.End() && g.Count > 0 && records.Next(&r); at++ {
		raw := left[:len(left)-len(records.Rest())]
		left = records.Rest()
		if at < g.Offset {
			continue
		}
		g.Offset++
		g.Count--
		if b.Expired(&r, now) {
			flush()
			expired = append(expired, state.Settlement{Op: state.SettleAck, Partition: part.ID, Offset: at, Count: 1})
			continue
		}
		if m.Count == 0 {
			m.Offset = int64(at)
		}
		m.Count++
		m.Records = append(m.Records, raw...)
	}
	flush()
	if len(expired) > 0 {
		k.leasing.propose(k, expired, func(*fault, uint64) {})
	}
}

// onSettle takes what a member says of its deliveries. The answer comes once it is in the log. It runs in the reader: the first word
// about a delivery counts.
func (c *conn) onSettle(body []byte) error {
	id, m, err := protocol.Decode(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	settle := m.(*protocol.Settle)
	k := c.consumer(settle.Sub)
	if k == nil {
		c.answer(id, nil, &fault{code: protocol.CodeNotLeader, outcome: protocol.OutcomeRejected, text: "this connection is no member of the group any more; become one and settle again"})
		return nil
	}
	items, answer, f := k.judge(settle)
	if f != nil || len(items) == 0 {
		c.answer(id, answer, f)
		return nil
	}
	k.leasing.propose(k, items, func(f *fault, index uint64) {
		answer.Applied = index
		c.answer(id, answer, f)
	})
	return nil
}

// judge looks up what the member holds, and marks what is to be proposed.
func (k *consumer) judge(m *protocol.Settle) (items []state.Settlement, answer *protocol.Settled, f *fault) {
	view, l := k.c.s.options.Group.View(), k.leasing
	g, f := k.group(view)
	if f != nil {
		return nil, nil, f
	}
	for i := range m.Items {
		if op := m.Items[i].Op; op < protocol.SettleAck || op > protocol.SettleExtend {
			return nil, nil, invalid("settlement %d: way %d is unknown", i, op)
		}
	}
	answer = &protocol.Settled{}
	subject := k.c.subject()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for i := range m.Items {
		s := &m.Items[i]
		r := lease.Record{Partition: topic.PartitionID(s.ID), Offset: topic.Offset(s.Offset)}
		cur, ok := view.Cursor(l.id, r.Partition)
		part, _ := view.Partition(r.Partition)
		if !ok || r.Offset < 0 || r.Offset >= part.Next || !g.Spec.Matches(part.Topic) || s.Attempt == 0 {
			continue // its topic is gone
		}
		if !subject.Decide(policy.Consume, part.Topic).Allow {
			answer.Stale = append(answer.Stale, uint64(i))
			continue
		}
		if s.Op == protocol.SettleExtend {
			if !l.table.Extend(now, k.member, r, s.Attempt) && !cur.Settled(r.Offset) {
				answer.Stale = append(answer.Stale, uint64(i))
			}
			continue
		}
		switch l.table.Settle(now, k.member, r, s.Attempt, cur) {
		case lease.Accepted:
			items = append(items, settlementOf(&g.Spec, s))
		case lease.Stale:
			answer.Stale = append(answer.Stale, uint64(i))
		}
	}
	return items, answer, nil
}

// settlementOf is what a settlement becomes in the log.
func settlementOf(spec *state.GroupSpec, s *protocol.Settlement) state.Settlement {
	out := state.Settlement{Op: state.SettleAck, Partition: topic.PartitionID(s.ID), Offset: topic.Offset(s.Offset), Count: 1, Attempt: s.Attempt}
	switch s.Op {
	case protocol.SettleNack:
		out.Op = state.SettleRetry
		if out.DelayMs = backoff(spec, s.Attempt); s.HasDelay {
			out.DelayMs = min(s.DelayMs, nackDelayMax)
		}
		return limited(spec, out)
	case protocol.SettleTerm:
		out.Op, out.Letter = state.SettleDead, &state.Letter{Reason: s.Reason}
	}
	return out
}

// nackDelayMax is the longest delay, in ms: a year.
const nackDelayMax = 365 * 24 * 3_600_000
