package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// repeat says what a lost connection means for a request that was sent.
type repeat bool

const (
	again repeat = true  // a read, or a change that may be made twice: ask again
	once  repeat = false // a second time could answer wrongly: the outcome is unknown
)

// call sends a request and returns its answer, waiting for a connection if there is
// none and asking again where that is right. op and resource are for error texts.
func call[T protocol.Message](ctx context.Context, c *Client, op, resource string, r repeat, m protocol.Message) (T, error) {
	var none T
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	answer, err := c.callLoop(ctx, op, resource, r, m)
	if err != nil {
		return none, err
	}
	t, ok := answer.(T)
	if !ok {
		return none, fmt.Errorf("%s: %w: %v", where(op, resource), errUnwelcome, answer.Kind())
	}
	return t, nil
}

// callLoop is call's loop over attempts.
func (c *Client) callLoop(ctx context.Context, op, resource string, r repeat, m protocol.Message) (protocol.Message, error) {
	var wait backoff
	var last error // what the broker said to the attempt before
	for {
		s, err := c.session(ctx)
		if err != nil {
			return nil, errors.Join(last, fmt.Errorf("%s: %w", where(op, resource), err))
		}
		answer, err := s.ask(ctx, m)
		if err != nil {
			if r == again && errors.Is(err, errLostRequest) && sleep(ctx, wait.next()) == nil {
				continue
			}
			return nil, errors.Join(last, lostAnswer(op, resource, r, err))
		}
		e, failed := answer.(*protocol.Error)
		if !failed {
			return answer, nil
		}
		err = translate(op, resource, s.welcome.Identity, e)
		if e.Outcome == protocol.OutcomeUnknown && r == once || !retryable(e.Code) && e.Outcome != protocol.OutcomeUnknown {
			return nil, err
		}
		if sleep(ctx, wait.next()) != nil {
			return nil, errors.Join(err, ended(ctx))
		}
		last = err
	}
}

// lostAnswer says what a missing answer means.
func lostAnswer(op, resource string, r repeat, err error) error {
	if r == once {
		return &UnknownOutcomeError{Op: op, Resource: resource, Err: err}
	}
	return fmt.Errorf("%s: %w", where(op, resource), err)
}

// ask sends one request over this session and waits for its answer.
func (s *session) ask(ctx context.Context, m protocol.Message) (protocol.Message, error) {
	type result struct {
		m   protocol.Message
		err error
	}
	answer := make(chan result, 1)
	s.send(m, func(m protocol.Message, err error) { answer <- result{m, err} })
	select {
	case r := <-answer:
		return r.m, r.err
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// bounded gives a context without a deadline that of Options.RequestTimeout.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || c.opts.RequestTimeout < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.RequestTimeout)
}

// after is what a read must show: what this client has seen, or everything that was acknowledged to anybody before the read.
func (c *Client) after(linearizable bool) uint64 {
	if linearizable {
		return protocol.AfterLinearizable
	}
	return c.applied.Load()
}

// sawApplied notes how far the broker's log is applied, so that later reads see it.
func (c *Client) sawApplied(index uint64) {
	for {
		old := c.applied.Load()
		if old >= index || c.applied.CompareAndSwap(old, index) {
			return
		}
	}
}

// ended says that ctx ended, in a way that matches both ErrTimeout and ctx's own error.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
	return context.Cause(ctx)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// when is a wire time; 0 is no time.
func when(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
