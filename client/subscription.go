package client

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// overshootBytes is how far beyond the window a broker may go: it spends credit in
// whole batches, and one may be larger than what is left.
const overshootBytes = 16 << 20

var errOvershoot = errors.New("the broker delivers far beyond the credit it was given")

// Subscription is a stream of messages. One goroutine at a time may read from it;
// Close may be called by any.
//
// readLoop puts deliveries and events into queue; the reading goroutine takes them
// out, cuts them into messages and gives the credit back.
type Subscription struct {
	client *Client
	id     uint64
	opts   SubscribeOptions
	start  protocol.StartKind
	value  int64
	opened chan struct{} // closed at the first SUBSCRIBED or the end
	wake   chan struct{} // holds 1: queue or err changed

	aborted atomic.Bool // Close or the context: do not even drain the queue

	mu sync.Mutex
	// Guarded by mu.
	sess     *session
	running  bool // SUBSCRIBED came once
	created  bool // missing topics were created, or tried to be
	retry    backoff
	parts    map[partitionKey]*subPartition
	queue    []delivery
	held     credit      // received and not yet consumed
	returned credit      // consumed and not yet granted again
	err      error       // why it ended
	refused  error       // why it is not open yet, as the broker said the last time
	unwatch  func() bool // ends the watch on Subscribe's context

	reader // owned by the reading goroutine
}

// credit is what a broker may send.
type credit struct{ bytes, records int }

type partitionKey struct {
	topic string
	num   uint32
}

// subPartition is one partition of a subscription.
type subPartition struct {
	topic string
	num   uint32
	inc   uint64
	stop  int64 // StopAtEnd: first offset that is not delivered, else noStop

	received int64 // next offset to be received; guarded by Subscription.mu

	// Owned by the reading goroutine.
	position int64 // next offset to be handed out
	finished bool  // position has reached stop, or the partition has left
}

const noStop = 1<<63 - 1

// delivery is an element of the queue: batches of a partition, an event, or a partition
// that has left.
type delivery struct {
	part    *subPartition
	batches []byte
	next    int64 // position of part behind this delivery
	credit  credit
	event   Event
	left    *subPartition // partition that has left
}

func newSubscription(c *Client, opts SubscribeOptions, now time.Time) *Subscription {
	s := &Subscription{
		client: c, opts: opts,
		opened: make(chan struct{}), wake: make(chan struct{}, 1),
		parts: make(map[partitionKey]*subPartition),
	}
	s.start, s.value = opts.From.wire(now)
	return s
}

// where names the subscription in error texts.
func (s *Subscription) where() string {
	return where("subscribe", s.resource())
}

func (s *Subscription) resource() string { return strings.Join(s.opts.Topics, ",") }

// Close ends the subscription. Messages that are queued are dropped.
func (s *Subscription) Close() error {
	s.abort(ErrClosed)
	return nil
}

// abort ends the subscription without draining the queue.
func (s *Subscription) abort(err error) {
	s.aborted.Store(true)
	s.end(err)
}

// end ends the subscription; the first reason counts. Next hands out what is queued
// and then returns err.
func (s *Subscription) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	sess, unwatch := s.sess, s.unwatch
	s.openedLocked()
	s.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	poke(s.wake)
	s.client.unregister(s.id)
	if sess != nil {
		sess.unwatch(s.id)
		sess.send(&protocol.Unsubscribe{Sub: s.id}, func(protocol.Message, error) {})
	}
}

func (s *Subscription) openedLocked() {
	select {
	case <-s.opened:
	default:
		close(s.opened)
	}
}

// resume subscribes over a session: the first time as the options say, later at the
// offset behind the last record received.
func (s *Subscription) resume(sess *session) {
	s.mu.Lock()
	if s.sess != nil && s.sess.number >= sess.number { // Subscribe and attach may both come here
		s.mu.Unlock()
		return
	}
	moved := s.sess != nil && s.sess.welcome.Cluster != sess.welcome.Cluster
	s.sess = sess
	s.mu.Unlock()
	if moved {
		s.dropAll() // offsets of another cluster mean nothing here
	}
	s.subscribe(sess)
}

// subscribe sends SUBSCRIBE under mu, so that no credit is granted between the moment
// it is counted and the moment the broker knows the subscription.
func (s *Subscription) subscribe(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.sess != sess {
		return
	}
	sess.watch(s)
	sess.send(s.requestLocked(), func(m protocol.Message, _ error) { s.onSubscribed(sess, m) })
}

func (s *Subscription) requestLocked() *protocol.Subscribe {
	s.returned = credit{}
	m := &protocol.Subscribe{
		Sub: s.id, Patterns: s.opts.Topics, Start: s.start, Value: s.value,
		CreditBytes:   uint64(max(0, s.opts.WindowBytes-s.held.bytes)),
		CreditRecords: uint64(max(0, s.opts.WindowRecords-s.held.records)),
		After:         s.client.after(s.opts.Linearizable && !s.running), // what runs goes on at its cursors
	}
	if s.opts.Partition != nil {
		m.HasPartition, m.OnlyPartition = true, *s.opts.Partition
	}
	if !s.running {
		return m
	}
	m.Start, m.Value = protocol.StartEarliest, 0 // for what was born meanwhile
	for _, p := range s.parts {
		m.Cursors = append(m.Cursors, protocol.Cursor{Topic: p.topic, Partition: p.num, Incarnation: p.inc, Offset: p.received})
	}
	return m
}

// onSubscribed takes the answer to SUBSCRIBE. If the connection is lost there is none,
// and attach asks again. In that case it may run under mu.
func (s *Subscription) onSubscribed(sess *session, m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Subscribed:
		s.client.sawApplied(m.Applied)
		s.assign(m.Assignments)
	case *protocol.Error:
		s.onRefused(sess, m)
	}
}

// onRefused decides what a refusal means: try again, create what is missing, or end.
func (s *Subscription) onRefused(sess *session, m *protocol.Error) {
	s.mu.Lock()
	create := m.Code == protocol.CodeNotFound && !s.created && !s.running
	s.created = s.created || create
	wait := s.retry.next()
	refusal := translate("subscribe", s.resource(), sess.welcome.Identity, m)
	if retryable(m.Code) {
		s.refused = refusal
	}
	s.mu.Unlock()
	switch {
	case create:
		s.createTopics(sess)
	case retryable(m.Code):
		time.AfterFunc(wait, func() { s.subscribe(sess) })
	case m.Code == protocol.CodeRecreated && s.dropAll():
		s.subscribe(sess)
	default:
		s.end(refusal)
	}
}

// createTopics lets the policy's auto_create rule make the plain names that are
// missing, then subscribes again. The last answer tells whether that makes sense.
func (s *Subscription) createTopics(sess *session) {
	var names []string
	for _, t := range s.opts.Topics {
		if p, err := topic.ParsePattern(t); err == nil {
			if name, ok := p.Literal(); ok {
				names = append(names, string(name))
			}
		}
	}
	var left atomic.Int32
	left.Store(int32(len(names)))
	for _, name := range names {
		create := &protocol.TopicCreate{Name: name, IfNotExists: true, Auto: true}
		sess.send(create, func(m protocol.Message, err error) {
			if e, ok := m.(*protocol.Error); ok && !retryable(e.Code) {
				s.end(translate("subscribe", name, sess.welcome.Identity, e))
			}
			if left.Add(-1) == 0 && err == nil {
				s.subscribe(sess)
			}
		})
	}
}

func (s *Subscription) pushLocked(d delivery) {
	s.queue = append(s.queue, d)
	poke(s.wake)
}

// onDeliver queues a copy of the batches; the frame's buffer belongs to the session.
func (s *Subscription) onDeliver(m *protocol.Deliver) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil
	}
	p := s.parts[partitionKey{m.Topic, m.Partition}]
	if p == nil || p.inc != m.Incarnation {
		return fmt.Errorf("deliver: %q partition %d is not part of subscription %d", m.Topic, m.Partition, s.id)
	}
	d := delivery{part: p, next: m.Next, credit: credit{len(m.Batches), int(m.Records)}}
	d.batches = append(d.batches, m.Batches...)
	p.received = max(p.received, m.Next)
	s.held.bytes += d.credit.bytes
	s.held.records += d.credit.records
	if s.held.bytes > s.opts.WindowBytes+overshootBytes {
		return errOvershoot
	}
	s.pushLocked(d)
	return nil
}

// onEvent queues an event in order with the deliveries.
func (s *Subscription) onEvent(m *protocol.Event) {
	s.mu.Lock()
	sess, ended := s.sess, s.err != nil
	if !ended {
		s.onEventLocked(m)
	}
	s.mu.Unlock()
	if m.Type == protocol.EventSubClosed && !ended {
		s.onRefused(sess, &protocol.Error{Code: m.Code, Text: m.Text})
	}
}

func (s *Subscription) onEventLocked(m *protocol.Event) {
	switch m.Type {
	case protocol.EventGap:
		if p := s.parts[partitionKey{m.Topic, m.Partition}]; p != nil {
			s.gapLocked(p, int64(m.Value))
		}
	case protocol.EventRecreated:
		s.leaveLocked(partitionKey{m.Topic, m.Partition}, m.Value, &RecreatedEvent{Topic: m.Topic})
	case protocol.EventDenied:
		s.leaveLocked(partitionKey{m.Topic, m.Partition}, 0, &CutEvent{Topic: m.Topic, Text: m.Text})
	case protocol.EventAssigned:
		s.joinLocked(m.Topic, m.Partition, m.Value, 0)
		s.pushLocked(delivery{event: &AssignedEvent{Topic: m.Topic, Partition: m.Partition}})
	}
}
