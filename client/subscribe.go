package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// Defaults of SubscribeOptions.
const (
	DefaultSubscribeBytes   = 4 << 20
	DefaultSubscribeRecords = 1 << 17
)

// SubscribeOptions say what to read. Topics is required.
type SubscribeOptions struct {
	// Topics are names or patterns: whole segments, '*' is one segment, '>' one or
	// more at the end. At most 64. A plain name that does not exist is created if the
	// policy says so, else it is ErrNotFound; a pattern also takes in what is born
	// later, from its first record.
	Topics []string
	// From says where to start. Default: Latest.
	From Start
	// Partition, if set, reads only this partition of the topics.
	Partition *uint32
	// StopAtEnd ends the subscription when everything was read that was there when
	// it began; later records are not delivered.
	StopAtEnd bool
	// Linearizable makes the start of the subscription, and with StopAtEnd its end, as new as the call: everything that was
	// acknowledged, to any client, before the call lies before Latest and before the end. Otherwise a node that lags behind the
	// leader may begin and end earlier, though not before what this client has seen. It costs what Topics.Linearizable costs, once.
	Linearizable bool
	// WindowBytes and WindowRecords bound what the broker sends ahead of the program,
	// and so the memory of a slow reader. Default 4 MiB and 131,072 records. One
	// batch is always sent, whatever its size.
	WindowBytes   int
	WindowRecords int
	// OnEvent is told about gaps, topics that come and go, and reconnects, by Next
	// and in order with the messages. If it is nil, Next returns *GapEvent,
	// *RecreatedEvent and *CutEvent as errors, so that missing records are never
	// silent; the next call of Next goes on behind them.
	OnEvent func(Event)
}

// Subscribe opens a subscription and waits until the broker has granted it. It lives
// until ctx ends, Close is called or, with StopAtEnd, all is read; after a lost
// connection it goes on at the record behind the last one received, without loss or
// repetition.
//
// Errors: *DeniedError, ErrNotFound, *RejectedError, or as Dial.
func (c *Client) Subscribe(ctx context.Context, opts SubscribeOptions) (*Subscription, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	sub := newSubscription(c, opts, time.Now())
	s, err := c.register(sub)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sub.where(), err)
	}
	if s != nil { // else attach does it
		sub.resume(s)
	}
	if err := sub.awaitOpen(ctx); err != nil {
		return nil, err
	}
	sub.watch(ctx)
	return sub, nil
}

// SubscribeFunc calls fn for every message, one at a time, until fn returns an error,
// ctx ends, or (with StopAtEnd) all is read. It returns the error, or nil at the end.
func (c *Client) SubscribeFunc(ctx context.Context, opts SubscribeOptions, fn func(*Message) error) error {
	sub, err := c.Subscribe(ctx, opts)
	if err != nil {
		return err
	}
	defer sub.Close()
	for m, err := range sub.Messages() {
		if err != nil {
			return err
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

func (o SubscribeOptions) withDefaults() (SubscribeOptions, error) {
	if len(o.Topics) == 0 {
		return o, errors.New("subscribe: no topics; set Topics to at least one name or pattern")
	}
	for _, t := range o.Topics {
		if _, err := topic.ParsePattern(t); err != nil {
			return o, &RejectedError{Op: "subscribe", Resource: t, Code: protocol.CodeInvalid, Text: err.Error()}
		}
	}
	setDefault(&o.WindowBytes, DefaultSubscribeBytes)
	setDefault(&o.WindowRecords, DefaultSubscribeRecords)
	if o.WindowBytes < 0 || o.WindowRecords < 0 {
		return o, errors.New("subscribe: WindowBytes and WindowRecords may not be negative; leave them 0 for the default")
	}
	return o, nil
}

// register makes the subscription one that survives reconnects, and returns the
// session in use, nil if there is none at the moment.
func (c *Client) register(sub *Subscription) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case c.sess == nil && c.refused != nil:
		return nil, c.refused
	}
	c.nextSub++
	sub.id = c.nextSub
	c.subs[sub.id] = sub
	return c.sess, nil
}

func (c *Client) unregister(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subs, id)
}

// awaitOpen waits for the broker's first SUBSCRIBED or its refusal.
func (s *Subscription) awaitOpen(ctx context.Context) error {
	ctx, cancel := s.client.bounded(ctx)
	defer cancel()
	select {
	case <-s.opened:
	case <-ctx.Done():
		s.mu.Lock()
		err := errors.Join(s.refused, fmt.Errorf("%s: %w", s.where(), ended(ctx)))
		s.mu.Unlock()
		s.abort(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watch ends the subscription with ctx.
func (s *Subscription) watch(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.unwatch = context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) })
	}
}
