package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// DefaultConsumeWindow is how many records a consumer holds at most, unless its options say otherwise.
const DefaultConsumeWindow = 256

// ConsumeOptions say how to consume a group.
type ConsumeOptions struct {
	// Window is how many records the consumer holds at most: those that were delivered, whether or not the program has
	// taken them, and that are not settled. At most 10,000; 0 = DefaultConsumeWindow.
	Window int
}

// ErrStaleDelivery says that a record was delivered again, perhaps to another member, before it was settled: what was said of
// the earlier delivery does not count.
var ErrStaleDelivery = errors.New("the record was delivered again since; this delivery does not count any more")

// Consumer is a member of a consumer group. It survives lost connections and changes of the leader: it is the same
// member then, and keeps what it holds. Its methods may be called by any goroutine.
type Consumer struct {
	client *Client
	id     uint64
	group  string
	member [16]byte
	window int
	opened chan struct{} // closed at the first CONSUME that was granted, or the end
	wake   chan struct{} // closed and replaced when queue or err changed; guarded by mu

	mu sync.Mutex
	// Guarded by mu.
	sess     *session // where it is a member, or asks to be one; nil = nowhere
	granted  bool     // sess has granted it
	ready    bool     // opened is closed
	retry    backoff
	queue    []*Delivery
	held     map[heldKey]uint64 // attempt by record
	waiting  []*settling        // not sent
	inFlight int                // SETTLE frames without an answer
	err      error
	refused  error
}

type heldKey struct {
	id     uint64
	offset int64
}

// settling is a settlement on its way.
type settling struct {
	item protocol.Settlement
	done func(error) // nil = nobody waits
}

// Bounds of what is sent at once.
const (
	settleFrames = 4
	settleItems  = 500
)

// Consume makes the client a member of a group and calls fn for every record, one at a time, until ctx ends or the
// membership does. fn returning nil acknowledges the record; an error gives it back, to be delivered again.
// It returns nil if ctx has ended.
func (c *Client) Consume(ctx context.Context, group string, fn func(context.Context, *Delivery) error) error {
	k, err := c.OpenConsumer(ctx, group, ConsumeOptions{})
	if err != nil {
		return err
	}
	defer k.Close()
	for {
		d, err := k.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if fn(ctx, d) == nil {
			d.Ack()
		} else {
			d.Nack()
		}
	}
}

// OpenConsumer makes the client a member of a group and waits until the broker has granted it. Groups are consumed at the
// leader: the client uses its connection to it. Errors: *DeniedError, ErrNotFound, *RejectedError, or as Dial.
func (c *Client) OpenConsumer(ctx context.Context, group string, o ConsumeOptions) (*Consumer, error) {
	setDefault(&o.Window, DefaultConsumeWindow)
	k := &Consumer{client: c, group: group, window: o.Window, opened: make(chan struct{}), wake: make(chan struct{}), held: map[heldKey]uint64{}}
	rand.Read(k.member[:])
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", k.where(), ErrClosed)
	}
	c.nextSub++
	k.id = c.nextSub
	c.consumers[k.id] = k
	c.mu.Unlock()
	poke(c.hinted)
	k.attach()
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	select {
	case <-k.opened:
	case <-ctx.Done():
		k.mu.Lock()
		err := errors.Join(k.refused, fmt.Errorf("%s: %w", k.where(), ended(ctx)))
		k.mu.Unlock()
		k.end(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	return k, nil
}

func (k *Consumer) where() string { return where("consume", k.group) }

// attach makes the consumer a member over the connection that it should have: the one to the leader, else the client's own.
func (k *Consumer) attach() {
	s := k.client.leaderSession()
	k.mu.Lock()
	old := k.sess
	if k.err != nil || s == nil || old == s {
		k.mu.Unlock()
		return
	}
	k.sess, k.granted = s, false
	m := &protocol.Consume{Sub: k.id, Group: k.group, Member: k.member, Window: uint32(k.window), After: k.client.after(false)}
	for key, attempt := range k.held {
		m.Held = append(m.Held, protocol.HeldRecord{ID: key.id, Offset: key.offset, Attempt: attempt})
	}
	s.watchConsumer(k)
	k.mu.Unlock()
	if old != nil {
		old.unwatchConsumer(k.id)
		old.send(&protocol.Unsubscribe{Sub: k.id}, func(protocol.Message, error) {})
	}
	s.send(m, func(m protocol.Message, err error) { k.onConsume(s, m, err) })
}

// onConsume takes the answer to CONSUME.
func (k *Consumer) onConsume(s *session, m protocol.Message, err error) {
	if e, ok := m.(*protocol.Error); ok {
		k.onRefused(s, e)
		return
	}
	k.mu.Lock()
	if err == nil && k.sess == s { // else it is attached anew
		k.granted = true
		k.retry.reset()
		k.openedLocked()
	}
	k.mu.Unlock()
	k.send()
}

// onRefused tries again later, at whoever leads then, or ends the consumer.
func (k *Consumer) onRefused(s *session, e *protocol.Error) {
	err := translate("consume", k.group, s.welcome.Identity, e)
	k.mu.Lock()
	if k.sess != s {
		k.mu.Unlock()
		return
	}
	k.sess, k.granted, k.refused = nil, false, err
	wait := k.retry.next()
	k.mu.Unlock()
	s.unwatchConsumer(k.id)
	if !retryable(e.Code) && e.Code != protocol.CodeNotLeader {
		k.end(err)
		return
	}
	time.AfterFunc(wait, k.attach)
}

// lost says that a session has ended.
func (k *Consumer) lost(s *session) {
	k.mu.Lock()
	if k.sess == s {
		k.sess, k.granted = nil, false
	}
	k.mu.Unlock()
	k.attach()
}

func (k *Consumer) openedLocked() {
	if !k.ready {
		k.ready = true
		close(k.opened)
	}
}

func (k *Consumer) wakeLocked() {
	close(k.wake)
	k.wake = make(chan struct{})
}

// Close ends the membership: what is held and not settled is delivered to other members. Settlements that are on their way are
// waited for, at most as long as Options.RequestTimeout.
func (k *Consumer) Close() error {
	ctx, cancel := k.client.bounded(context.Background())
	defer cancel()
	err := k.flush(ctx)
	k.end(ErrClosed)
	return err
}

// flush waits until every settlement has its answer.
func (k *Consumer) flush(ctx context.Context) error {
	for {
		k.mu.Lock()
		idle, wake := k.err != nil || len(k.waiting) == 0 && k.inFlight == 0, k.wake
		k.mu.Unlock()
		if idle {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("%s: settlements without an answer: %w", k.where(), ended(ctx))
		}
	}
}

// end ends the consumer; the first reason counts.
func (k *Consumer) end(err error) {
	k.mu.Lock()
	if k.err != nil {
		k.mu.Unlock()
		return
	}
	k.err = err
	s, waiting := k.sess, k.waiting
	k.waiting, k.queue = nil, nil
	k.openedLocked()
	k.wakeLocked()
	k.mu.Unlock()
	k.client.removeConsumer(k.id)
	for _, w := range waiting {
		w.tell(err)
	}
	if s != nil {
		s.unwatchConsumer(k.id)
		s.send(&protocol.Unsubscribe{Sub: k.id}, func(protocol.Message, error) {})
	}
}

func (w *settling) tell(err error) {
	if w.done != nil {
		w.done(err)
	}
}

// onLeased queues what came.
func (k *Consumer) onLeased(s *session, m *protocol.Leased) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil || k.sess != s {
		return nil
	}
	if len(m.SPKI) != 32 || len(k.held)+int(m.Count) > k.window+consumeWindowMax {
		return fmt.Errorf("leased: %d records and a key hash of %d bytes: %w", m.Count, len(m.SPKI), errOvershoot)
	}
	records := batch.Records(m.Records)
	for i := range int64(m.Count) {
		d := &Delivery{consumer: k, id: m.ID, Attempt: m.Attempt, Message: Message{Topic: m.Topic, Partition: m.Partition, Incarnation: m.Incarnation, Offset: m.Offset + i,
			Time: when(m.TimeMs), Publisher: m.Publisher, PublisherSPKI: [32]byte(m.SPKI), PolicyVersion: m.PolicyVer}}
		var r batch.Record
		if !records.Next(&r) {
			return fmt.Errorf("leased: %d of %d records: %w", i, m.Count, errors.Join(ErrCorrupt, records.Err()))
		}
		d.Key, d.Headers, d.Body = r.Key, r.Headers, r.Body
		k.held[d.key()] = m.Attempt
		k.queue = append(k.queue, d)
	}
	k.wakeLocked()
	return nil
}

const consumeWindowMax = 10_000

// Next returns the next record, waiting for one until ctx ends. Errors: ErrClosed after Close; *DeniedError or ErrNotFound
// when the membership has ended.
func (k *Consumer) Next(ctx context.Context) (*Delivery, error) {
	for {
		k.mu.Lock()
		d, err, wake := k.takeLocked(), k.err, k.wake
		k.mu.Unlock()
		switch {
		case d != nil:
			return d, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: next record: %w", k.where(), ended(ctx))
		}
	}
}

// takeLocked leaves out what was delivered again since.
func (k *Consumer) takeLocked() *Delivery {
	for len(k.queue) > 0 {
		d := k.queue[0]
		k.queue[0] = nil
		k.queue = k.queue[1:]
		if k.held[d.key()] == d.Attempt {
			return d
		}
	}
	return nil
}

// Fetch returns up to n records: as soon as there are some, or none after wait.
func (k *Consumer) Fetch(ctx context.Context, n int, wait time.Duration) ([]*Delivery, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d, err := k.Next(waiting)
	switch {
	case err != nil && ctx.Err() == nil && waiting.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, err
	}
	list := []*Delivery{d}
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(list) < n {
		d := k.takeLocked()
		if d == nil {
			break
		}
		list = append(list, d)
	}
	return list, nil
}

// Deliveries goes over the records until ctx ends or the consumer does; any end but Close and that of ctx is yielded as an error.
func (k *Consumer) Deliveries(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for {
			d, err := k.Next(ctx)
			if err != nil && (ctx.Err() != nil || errors.Is(err, ErrClosed)) {
				return
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// settle queues a settlement.
func (k *Consumer) settle(w *settling) {
	k.mu.Lock()
	err := k.err
	if err == nil {
		k.waiting = append(k.waiting, w)
	}
	k.mu.Unlock()
	if err != nil {
		w.tell(err)
		return
	}
	k.send()
}

// send sends what waits, a few frames at a time.
func (k *Consumer) send() {
	for {
		s, sent := k.nextFrame()
		if s == nil {
			return
		}
		m := &protocol.Settle{Sub: k.id}
		for _, w := range sent {
			m.Items = append(m.Items, w.item)
		}
		s.send(m, func(m protocol.Message, err error) { k.onSettled(s, sent, m, err) })
	}
}

// nextFrame takes what may be sent now, and where to.
func (k *Consumer) nextFrame() (*session, []*settling) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.granted || len(k.waiting) == 0 || k.inFlight >= settleFrames {
		return nil, nil
	}
	n := min(len(k.waiting), settleItems)
	sent := k.waiting[:n:n]
	if k.waiting = k.waiting[n:]; len(k.waiting) == 0 {
		k.waiting = nil
	}
	k.inFlight++
	return k.sess, sent
}

// onSettled takes an answer. What may not have been taken is sent again: to settle twice changes nothing.
func (k *Consumer) onSettled(s *session, sent []*settling, m protocol.Message, err error) {
	failed, _ := m.(*protocol.Error)
	if err != nil || failed != nil && (retryable(failed.Code) || failed.Outcome == protocol.OutcomeUnknown || failed.Code == protocol.CodeNotLeader) {
		k.sendAgain(s, sent)
		if failed != nil {
			k.onRefused(s, failed)
		}
		return
	}
	if failed != nil {
		err = translate("settle", k.group, s.welcome.Identity, failed)
	}
	k.letGo(sent)
	stale := k.staleOf(m)
	for i, w := range sent {
		if stale[uint64(i)] {
			w.tell(fmt.Errorf("settle record %d of %q: %w", w.item.Offset, k.group, ErrStaleDelivery))
		} else {
			w.tell(err)
		}
	}
	k.send()
}

// sendAgain puts settlements back, in front, until the consumer is a member again.
func (k *Consumer) sendAgain(s *session, sent []*settling) {
	k.mu.Lock()
	k.inFlight--
	end := k.err
	if end == nil {
		k.waiting = append(sent, k.waiting...)
	}
	if k.sess == s {
		k.granted = false
	}
	k.wakeLocked()
	k.mu.Unlock()
	if end != nil {
		for _, w := range sent {
			w.tell(end)
		}
	}
}

// letGo forgets what is settled.
func (k *Consumer) letGo(sent []*settling) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inFlight--
	for _, w := range sent {
		key := heldKey{w.item.ID, w.item.Offset}
		if w.item.Op != protocol.SettleExtend && k.held[key] == w.item.Attempt {
			delete(k.held, key)
		}
	}
	k.wakeLocked()
}

// staleOf are the settlements that did not count.
func (k *Consumer) staleOf(m protocol.Message) map[uint64]bool {
	a, ok := m.(*protocol.Settled)
	if !ok {
		return nil
	}
	k.client.sawApplied(a.Applied)
	stale := map[uint64]bool{}
	for _, i := range a.Stale {
		stale[i] = true
	}
	return stale
}
