package client

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// metadataEvery is how often topics in use are looked at for new partitions.
const metadataEvery = 5 * time.Minute

// topicState is what the producer knows about a topic. All of it is guarded by
// producer.mu.
type topicState struct {
	producer   *producer
	name       string
	known      chan struct{} // closed once parts or err is set
	refreshing bool          // the broker is being asked; nothing is sent meanwhile
	err        error         // the topic cannot be used; it is then forgotten
	inc        uint64
	parts      []*partition
	sticky     uint32 // partition of records without a key
	retry      backoff
}

// topicLocked returns the topic, asking the broker on its first use. mu is released
// while waiting.
func (p *producer) topicLocked(ctx context.Context, name string) (*topicState, error) {
	if t := p.latest; t != nil && t.name == name {
		return t, nil
	}
	if p.refused != nil {
		return nil, fmt.Errorf("publish %q: %w", name, p.refused)
	}
	t, err := p.findLocked(name)
	if err != nil {
		return nil, err
	}
	if len(t.parts) == 0 {
		if err := p.awaitTopicLocked(ctx, t); err != nil {
			return nil, err
		}
	}
	p.latest = t
	return t, nil
}

func (p *producer) findLocked(name string) (*topicState, error) {
	if t := p.topics[name]; t != nil {
		return t, nil
	}
	if _, err := topic.ParseName(name); err != nil {
		return nil, &RejectedError{Op: "publish", Resource: name, Code: protocol.CodeInvalid, Text: err.Error()}
	}
	t := &topicState{producer: p, name: name, known: make(chan struct{}), refreshing: true, sticky: rand.Uint32()}
	p.topics[name] = t
	poke(p.client.hinted)      // from now on it matters who leads
	if s := p.sess; s != nil { // else attach asks
		p.mu.Unlock()
		p.ask(s, t)
		p.mu.Lock()
	}
	return t, nil
}

func (p *producer) awaitTopicLocked(ctx context.Context, t *topicState) error {
	p.mu.Unlock()
	ctx, cancel := p.client.bounded(ctx)
	defer cancel()
	select {
	case <-t.known:
	case <-ctx.Done():
	}
	p.mu.Lock()
	switch {
	case t.err != nil:
		return t.err
	case len(t.parts) == 0:
		return fmt.Errorf("publish %q: not sent, the broker has not described the topic: %w", t.name, ended(ctx))
	}
	return nil
}

// pick chooses the record's partition: the one asked for, the one of the key, or the
// sticky one, which changes with every batch.
func (t *topicState) pick(key []byte, size int, opt PublishOption) (*partition, error) {
	count := uint32(len(t.parts))
	switch {
	case opt.hasPartition && opt.partition >= count:
		return nil, &RejectedError{Op: "publish", Resource: t.name, Code: protocol.CodeNotFound,
			Text: fmt.Sprintf("there is no partition %d, the topic has %d; partitions count from 0", opt.partition, count)}
	case opt.hasPartition:
		return t.parts[opt.partition], nil
	case count == 1:
		return t.parts[0], nil
	case key != nil:
		return t.parts[topic.PartitionFor(key, count)], nil
	}
	if !t.producer.fitsLocked(t.parts[t.sticky%count], size) {
		t.sticky++
	}
	return t.parts[t.sticky%count], nil
}

// ask asks the broker about a topic; the answer comes to onTopic. If the connection
// is lost first, attach asks again.
func (p *producer) ask(s *session, t *topicState) {
	s.send(&protocol.TopicGet{Name: t.name, After: p.client.applied.Load()}, func(m protocol.Message, err error) {
		e, _ := m.(*protocol.Error)
		switch {
		case e != nil && e.Code == protocol.CodeNotFound:
			p.askToCreate(s, t)
		case e != nil && e.Code == protocol.CodeDenied:
			p.askWhy(s, t, e)
		default:
			p.onTopic(t, m, err)
		}
	})
}

// askWhy finds the rule that forbids publishing: the denial at hand is about looking at
// the topic.
func (p *producer) askWhy(s *session, t *topicState, denied *protocol.Error) {
	s.send(&protocol.PolicyExplain{Action: "publish", Resource: t.name}, func(m protocol.Message, err error) {
		if d, ok := m.(*protocol.Decision); ok && !d.Allow {
			denied.Rule, denied.Line, denied.PolicyVer, denied.Text = d.Rule, d.Line, d.Version, d.Reason
		}
		p.onTopic(t, denied, err)
	})
}

// askToCreate lets the policy's auto_create rule make the topic.
func (p *producer) askToCreate(s *session, t *topicState) {
	s.send(&protocol.TopicCreate{Name: t.name, IfNotExists: true, Auto: true}, func(m protocol.Message, err error) {
		p.onTopic(t, m, err)
	})
}

// lookAgain asks about every topic in use from time to time, because a topic may get
// more partitions without anything failing. Only a description counts as an answer.
func (p *producer) lookAgain(now time.Time) {
	p.mu.Lock()
	s := p.sess
	if s == nil || now.Sub(p.lookedAt) < metadataEvery {
		p.mu.Unlock()
		return
	}
	p.lookedAt = now
	topics := slices.Collect(maps.Values(p.topics))
	p.mu.Unlock()
	for _, t := range topics {
		s.send(&protocol.TopicGet{Name: t.name, After: p.client.applied.Load()}, func(m protocol.Message, err error) {
			if _, ok := m.(*protocol.Topic); ok {
				p.onTopic(t, m, err)
			}
		})
	}
}

// onTopic takes the answer to ask or askToCreate.
func (p *producer) onTopic(t *topicState, m protocol.Message, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || t.err != nil {
		return
	}
	switch m := m.(type) {
	case *protocol.Topic:
		p.describeLocked(t, m)
	case *protocol.Error:
		if retryable(m.Code) || m.Outcome == protocol.OutcomeUnknown {
			p.askLaterLocked(t)
			return
		}
		p.failTopicLocked(t, translate("publish", t.name, p.client.identity(), m))
	}
}

func (p *producer) askLaterLocked(t *topicState) {
	time.AfterFunc(t.retry.next(), func() {
		p.mu.Lock()
		s := p.sess
		p.mu.Unlock()
		if s != nil {
			p.ask(s, t)
		}
	})
}

// describeLocked takes over what the broker says. Partitions that are no more, which
// happens only when the topic was created anew, fail.
func (p *producer) describeLocked(t *topicState, m *protocol.Topic) {
	p.client.sawApplied(m.Applied)
	if t.inc != m.Info.Incarnation {
		t.recreated(m.Info.Incarnation)
	}
	t.refreshing = false
	t.retry.reset()
	n := len(m.Info.Partitions)
	for len(t.parts) > n {
		last := t.parts[len(t.parts)-1]
		t.parts = t.parts[:len(t.parts)-1]
		p.failPartitionLocked(last, &RecreatedEvent{Topic: t.name})
	}
	for len(t.parts) < n {
		t.parts = append(t.parts, &partition{topic: t, num: uint32(len(t.parts)), epoch: p.floor, hole: noHole})
	}
	for _, q := range t.parts {
		p.offerLocked(q)
	}
	select {
	case <-t.known:
	default:
		close(t.known)
	}
}

// recreated makes the partitions count from 0 again: their logs are new.
func (t *topicState) recreated(inc uint64) {
	t.inc = inc
	for _, q := range t.parts {
		q.renumber = true
		q.settle()
	}
}

// failTopicLocked ends everything of the topic and forgets it, so that the next
// record asks anew.
func (p *producer) failTopicLocked(t *topicState, err error) {
	t.err = err
	delete(p.topics, t.name)
	if p.latest == t {
		p.latest = nil
	}
	for _, q := range t.parts {
		p.failPartitionLocked(q, err)
	}
	select {
	case <-t.known:
	default:
		close(t.known)
	}
}

// failPartitionLocked ends everything of the partition. Should it come back, its
// numbers start above every epoch used so far: a number that was used for other
// records would be answered as their duplicate.
func (p *producer) failPartitionLocked(q *partition, err error) {
	p.floor = max(p.floor, q.epoch+1)
	if q.timer != nil {
		q.timer.Stop()
	}
	for len(q.batches) > 0 {
		p.abandonLocked(q.batches[0], err)
	}
}
