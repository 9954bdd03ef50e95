package broker

import (
	"errors"

	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// start queues SUBSCRIBED, the answer to a request, and then starts the loop.
func (s *subscription) start(id uint64) {
	c := s.c
	answer := &protocol.Subscribed{}
	for key, cur := range s.cursors {
		answer.Assignments = append(answer.Assignments, protocol.Assignment{Topic: string(key.name), Partition: key.partition, Incarnation: uint64(key.incarnation),
			Start: int64(cur.next), End: int64(c.s.options.Log.End(cur.id))})
	}
	answer.Applied = c.s.options.Group.View().Applied() // after the ends: who asks another node for it finds them there
	c.out.push(answer, id)
	for _, p := range s.stale {
		c.out.push(&protocol.Event{Type: protocol.EventRecreated, Sub: s.id, Topic: p.Topic, Partition: p.Partition, Value: p.Incarnation, Code: protocol.CodeRecreated, Text: "the topic was deleted"}, 0)
	}
	s.stale = nil
	c.work.Go(s.loop)
}

// loop delivers until the subscription or its connection ends.
func (s *subscription) loop() {
	defer close(s.done)
	defer s.c.removeSubscription(s)
	defer s.cancelWaiters()
	for _, cur := range s.cursors {
		s.await(cur)
	}
	for {
		if f := s.turn(); f != nil {
			s.close(f)
			return
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// turn takes over what changed and delivers what it can, as long as the outbox has room: a client that takes nothing is
// sent nothing, and not told of changes either. Before each delivery the policy in force is the one that was looked at.
func (s *subscription) turn() *fault {
	for s.ctx.Err() == nil && s.c.out.hasRoom() {
		if f := s.refresh(); f != nil {
			return f
		}
		cur, most := s.next()
		if cur == nil {
			return nil
		}
		if f := s.serve(cur, most); f != nil {
			return f
		}
	}
	return nil
}

// await queues the cursor once its partition has a record behind it.
func (s *subscription) await(cur *cursor) {
	cur.waiter.From = cur.next
	if !s.c.s.options.Log.Await(&cur.waiter) {
		s.enqueue(cur)
	}
}

func (s *subscription) cancelWaiters() {
	for _, cur := range s.cursors {
		s.c.s.options.Log.Cancel(&cur.waiter)
	}
}

// close tells the client that the subscription ended, and why.
func (s *subscription) close(f *fault) {
	s.c.s.metrics.failed(f)
	s.c.out.push(&protocol.Event{Type: protocol.EventSubClosed, Sub: s.id, Code: f.code, Text: f.text}, 0)
}

// serve delivers from one partition, once, and queues it again behind the others.
func (s *subscription) serve(cur *cursor, most int) *fault {
	if cur.removed {
		return nil
	}
	log := s.c.s.options.Log
	buf, next, records, err := log.Read(cur.id, cur.next, most, s.buf[:0])
	s.buf = buf
	if err == nil && records > 0 {
		buf, records, err = s.living(buf)
	}
	if err != nil {
		return s.readFault(cur, err)
	}
	if s.c.s.catchUp() { // these records may be behind a change that ends all this: look first, then read again
		s.enqueue(cur)
		return nil
	}
	if next > cur.next {
		m := protocol.Deliver{Sub: s.id, Topic: string(cur.key.name), Partition: cur.key.partition, Incarnation: uint64(cur.key.incarnation),
			Next: int64(next), End: int64(log.End(cur.id)), Records: records, Batches: buf}
		s.c.out.deliver(&m)
		s.spend(len(buf), records)
		s.c.s.metrics.delivered.Add(float64(records))
		s.c.s.metrics.deliveredB.Add(float64(len(buf)))
		cur.next = next
	}
	if cap(s.buf) > 2*deliverBytes {
		s.buf = nil
	}
	s.await(cur)
	return nil
}

// readFault decides what a failed read means for the subscription.
func (s *subscription) readFault(cur *cursor, err error) *fault {
	switch {
	case errors.Is(err, storage.ErrClosed):
		s.leave(cur)
		return nil
	case errors.Is(err, storage.ErrTrimmed):
		p, _ := s.c.s.options.Group.View().Partition(cur.id)
		if p.Low <= cur.next {
			break
		}
		s.c.out.push(&protocol.Event{Type: protocol.EventGap, Sub: s.id, Topic: string(cur.key.name), Partition: cur.key.partition, Value: uint64(p.Low), Code: protocol.CodeTrimmed}, 0)
		cur.next = p.Low
		s.await(cur)
		return nil
	case errors.Is(err, storage.ErrCorrupt):
		s.c.s.log.Error("delivery stopped: stored data is damaged", "topic", cur.key.name, "partition", cur.key.partition, "offset", cur.next, "error", err)
		return &fault{code: protocol.CodeCorrupt, text: "stored records of " + string(cur.key.name) + " are damaged; nothing was skipped; the broker's log has the place"}
	}
	return s.c.s.faultOf(err)
}

// leave drops a partition whose topic is gone.
func (s *subscription) leave(cur *cursor) {
	s.remove(cur)
	s.c.out.push(&protocol.Event{Type: protocol.EventRecreated, Sub: s.id, Topic: string(cur.key.name), Partition: cur.key.partition, Value: uint64(cur.key.incarnation), Code: protocol.CodeRecreated, Text: "the topic was deleted"}, 0)
}

// refresh takes over changes of policy and topics since the last look.
func (s *subscription) refresh() *fault {
	view, p := s.c.s.options.Group.View(), s.c.s.Policy()
	if s.policy != p {
		s.policy = p
		if f := s.recheck(); f != nil {
			return f
		}
	} else if s.generation == view.Generation() {
		return nil
	}
	s.generation = view.Generation()
	s.dropMissing(view)
	return s.join(view)
}

// recheck holds patterns and partitions to a new policy.
func (s *subscription) recheck() *fault {
	subject := s.policy.For(string(s.c.peer.Principal))
	for _, pattern := range s.patterns {
		if d := subject.DecidePattern(policy.Subscribe, pattern); !d.Allow {
			return s.c.denied(policy.Subscribe, pattern.String(), d)
		}
	}
	for _, cur := range s.cursors {
		if d := subject.Decide(policy.Subscribe, cur.key.name); !d.Allow {
			s.remove(cur)
			s.c.out.push(&protocol.Event{Type: protocol.EventDenied, Sub: s.id, Topic: string(cur.key.name), Partition: cur.key.partition, Code: protocol.CodeDenied, Text: d.Reason}, 0)
		}
	}
	return nil
}

// dropMissing leaves partitions whose topic is gone or was created anew.
func (s *subscription) dropMissing(view *state.View) {
	for _, cur := range s.cursors {
		if t, ok := view.Topic(cur.key.name); !ok || t.Incarnation != cur.key.incarnation {
			s.leave(cur)
		}
	}
}

// join adds partitions that were born since the last look. They start at their first record.
func (s *subscription) join(view *state.View) (f *fault) {
	s.eachPartition(view, func(key cursorKey, id topic.PartitionID) bool {
		if s.cursors[key] != nil {
			return true
		}
		if most := s.c.s.options.Limits.PartitionsPerSubscription; len(s.cursors) >= most {
			f = limitFault("partitions_per_subscription", most)
			return false
		}
		p, _ := view.Partition(id)
		s.add(key, id, p.Low)
		s.c.out.push(&protocol.Event{Type: protocol.EventAssigned, Sub: s.id, Topic: string(key.name), Partition: key.partition, Value: uint64(key.incarnation)}, 0)
		s.await(s.cursors[key])
		return true
	})
	return f
}
