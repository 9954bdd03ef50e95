package client

import "github.com/waxwing-mq/waxwing/protocol"

// Assignment is one partition of a subscription.
type Assignment struct {
	Topic       string
	Partition   uint32
	Incarnation uint64
	Next        int64 // next offset that the program will receive from the connection
}

// Assignments returns the partitions that are subscribed now, in no order.
func (s *Subscription) Assignments() []Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Assignment, 0, len(s.parts))
	for _, p := range s.parts {
		all = append(all, Assignment{p.topic, p.num, p.inc, p.received})
	}
	return all
}

// assign takes over the partitions of a SUBSCRIBED.
func (s *Subscription) assign(as []protocol.Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retry.reset()
	if s.running {
		s.reassignLocked(as)
		return
	}
	s.running = true
	for i := range as {
		a := &as[i]
		p := s.joinLocked(a.Topic, a.Partition, a.Incarnation, a.Start)
		if s.opts.StopAtEnd {
			p.stop = a.End
			if a.Start < a.End {
				s.unfinished++ // reading has not begun
			}
			p.finished = a.Start >= a.End
		}
		if s.start == protocol.StartOffset && s.value < a.Start {
			p.position, p.received = s.value, s.value
			s.gapLocked(p, a.Start)
		}
	}
	s.openedLocked()
}

// reassignLocked compares what the broker serves after a reconnect with what was
// subscribed before.
func (s *Subscription) reassignLocked(as []protocol.Assignment) {
	served := make(map[string]bool, len(as))
	for i := range as {
		a := &as[i]
		served[a.Topic] = true
		p := s.parts[partitionKey{a.Topic, a.Partition}]
		if p != nil && p.inc != a.Incarnation {
			s.recreatedLocked(a.Topic)
			p = nil
		}
		if p != nil {
			s.gapLocked(p, a.Start)
			continue
		}
		s.joinLocked(a.Topic, a.Partition, a.Incarnation, a.Start)
		s.pushLocked(delivery{event: &AssignedEvent{Topic: a.Topic, Partition: a.Partition}})
	}
	for key := range s.parts {
		if !served[key.topic] {
			s.recreatedLocked(key.topic)
		}
	}
	s.pushLocked(delivery{event: &ResumedEvent{}})
}

// joinLocked adds a partition. One that comes later than the subscription has no
// part in "everything that was there when it began".
func (s *Subscription) joinLocked(name string, num uint32, inc uint64, start int64) *subPartition {
	p := &subPartition{topic: name, num: num, inc: inc, received: start, position: start, stop: noStop}
	if s.opts.StopAtEnd {
		p.stop, p.finished = 0, true
	}
	s.parts[partitionKey{name, num}] = p
	return p
}

// leaveLocked removes a partition, if it is still the one of that incarnation (0 = any),
// and tells the reader. The program hears of it once, with the topic's last partition.
func (s *Subscription) leaveLocked(key partitionKey, inc uint64, e Event) {
	p := s.parts[key]
	if p == nil || inc != 0 && p.inc != inc {
		return
	}
	delete(s.parts, key)
	for other := range s.parts {
		if other.topic == key.topic {
			e = nil
			break
		}
	}
	s.pushLocked(delivery{event: e, left: p})
}

// gapLocked moves a partition to offset to, if that is ahead, and tells the reader.
func (s *Subscription) gapLocked(p *subPartition, to int64) {
	if to <= p.received {
		return
	}
	s.pushLocked(delivery{part: p, next: to, event: &GapEvent{Topic: p.topic, Partition: p.num, From: p.received, To: to}})
	p.received = to
}

// dropAll forgets all cursors: the topics behind them are gone. It says whether there
// were any.
func (s *Subscription) dropAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := len(s.parts) > 0
	for key := range s.parts {
		s.recreatedLocked(key.topic)
	}
	return some
}

// recreatedLocked removes every partition of a topic that is not what it was.
func (s *Subscription) recreatedLocked(name string) {
	for key := range s.parts {
		if key.topic == name {
			s.leaveLocked(key, 0, &RecreatedEvent{Topic: name})
		}
	}
}
