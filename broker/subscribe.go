package broker

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// patternsMax is how many patterns one subscription may have.
const patternsMax = 64

// onSubscribe opens a subscription. SUBSCRIBED is queued before the first DELIVER.
func (c *conn) onSubscribe(id uint64, m *protocol.Subscribe) (protocol.Message, *fault) {
	patterns, f := c.patternsOf(m)
	if f != nil {
		return nil, f
	}
	s := newSubscription(c, m, patterns)
	if f := s.begin(m); f != nil {
		return nil, f
	}
	if f := c.addSubscription(s); f != nil {
		return nil, f
	}
	s.start(id)
	return nil, nil
}

// patternsOf parses and authorises the patterns.
func (c *conn) patternsOf(m *protocol.Subscribe) ([]topic.Pattern, *fault) {
	if len(m.Patterns) == 0 || len(m.Patterns) > patternsMax {
		return nil, invalid("a subscription has 1 to %d patterns, not %d", patternsMax, len(m.Patterns))
	}
	var patterns []topic.Pattern
	for _, text := range m.Patterns {
		p, err := topic.ParsePattern(text)
		if err != nil {
			return nil, c.s.faultOf(err)
		}
		if d := c.subject().DecidePattern(policy.Subscribe, p); !d.Allow {
			return nil, c.denied(policy.Subscribe, text, d)
		}
		patterns = append(patterns, p)
	}
	view := c.s.options.Group.View()
	for _, p := range patterns {
		if name, ok := p.Literal(); ok {
			if _, there := view.Topic(name); !there {
				return nil, &fault{code: protocol.CodeNotFound, text: fmt.Sprintf("there is no topic %s", name)}
			}
		}
	}
	return patterns, nil
}

// addSubscription registers it under its number.
func (c *conn) addSubscription(s *subscription) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return errShutdown
	case c.subs[s.id] != nil || c.consumers[s.id] != nil:
		return invalid("subscription %d is open already; choose another number", s.id)
	case len(c.subs)+len(c.consumers) >= c.s.options.Limits.Subscriptions:
		return limitFault("subscriptions", c.s.options.Limits.Subscriptions)
	}
	if c.subs == nil {
		c.subs = map[uint64]*subscription{}
	}
	c.subs[s.id] = s
	c.s.metrics.subscriptions.Inc()
	return nil
}

// removeSubscription forgets it.
func (c *conn) removeSubscription(s *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[s.id] == s {
		delete(c.subs, s.id)
		c.s.metrics.subscriptions.Dec()
	}
}

func (c *conn) subscription(id uint64) *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs[id]
}

// wakeSubscriptions lets every subscription look again.
func (c *conn) wakeSubscriptions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs {
		s.signal()
	}
	for _, k := range c.consumers {
		k.signal()
	}
}

// onUnsubscribe ends a subscription. Ending one that is gone is fine.
func (c *conn) onUnsubscribe(m *protocol.Unsubscribe) (protocol.Message, *fault) {
	if s := c.subscription(m.Sub); s != nil {
		s.cancel(errUnsubscribed)
		<-s.done
	}
	if k := c.consumer(m.Sub); k != nil {
		k.cancel(errUnsubscribed)
		<-k.done
	}
	return &protocol.OK{}, nil
}

// onCredit grants a subscription more. Credit for one that is gone is fine.
func (c *conn) onCredit(body []byte) error {
	_, m, err := protocol.Decode(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	credit := m.(*protocol.Credit)
	if s := c.subscription(credit.Sub); s != nil {
		s.grant(credit.Bytes, credit.Records)
	}
	return nil
}

// startOf is the offset at which a new subscription, or a new group, begins in a partition.
func (s *Server) startOf(start protocol.StartKind, value int64, id topic.PartitionID, p state.Partition) (topic.Offset, *fault) {
	log := s.options.Log
	end := log.End(id)
	switch start {
	case protocol.StartLatest:
		return end, nil
	case protocol.StartEarliest:
		return p.Low, nil
	case protocol.StartTail:
		if value < 0 {
			return 0, invalid("a tail of %d records", value)
		}
		return max(p.Low, end-topic.Offset(value)), nil
	case protocol.StartTime:
		at, err := log.OffsetAt(id, value)
		if err != nil {
			return 0, s.faultOf(err)
		}
		return max(p.Low, at), nil
	case protocol.StartOffset:
		if at := topic.Offset(value); at < 0 || at > end {
			return 0, &fault{code: protocol.CodeOutOfRange, text: fmt.Sprintf("offset %d is not in the partition, which goes from %d to %d", value, p.Low, end)}
		}
		return topic.Offset(value), nil
	}
	return 0, invalid("start kind %d is unknown", start)
}
