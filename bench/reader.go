package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// reader is one subscription that verifies what it gets. readLoop owns the verifier until it has ended.
type reader struct {
	sub      *client.Subscription
	epoch    time.Time
	verifier *verifier
	recorder *recorder // from due to received; nil = nobody asks

	got     atomic.Uint64 // records that were waited for, without markers
	bytes   atomic.Uint64
	last    atomic.Int64 // when the latest came, nanoseconds since epoch
	markers chan uint64  // how many have come, so far; holds the newest
	ended   chan struct{}
	err     error // valid once ended is closed
}

// openReader subscribes to the topics of a pattern. With toEnd it reads everything that was acknowledged to anybody, at whatever node it is,
// and ends.
func openReader(ctx context.Context, c *client.Client, pattern string, toEnd bool, v *verifier, epoch time.Time) (*reader, error) {
	sub, err := c.Subscribe(ctx, client.SubscribeOptions{Topics: []string{pattern}, From: client.Earliest(), StopAtEnd: toEnd, Linearizable: toEnd})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return &reader{sub: sub, epoch: epoch, verifier: v, markers: make(chan uint64, 1), ended: make(chan struct{})}, nil
}

// readLoop reads until the subscription ends.
func (r *reader) readLoop(ctx context.Context) {
	defer close(r.ended)
	for {
		m, err := r.sub.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, client.ErrClosed):
			return
		case err != nil:
			r.err = fmt.Errorf("read: %w", err)
			return
		}
		r.take(m)
	}
}

func (r *reader) take(m *client.Message) {
	s, ok := r.verifier.check(m.Body)
	if !ok {
		return
	}
	if s.kind == kindMarker {
		select { // replaces an older number
		case <-r.markers:
		default:
		}
		r.markers <- r.verifier.markers
		return
	}
	at := time.Since(r.epoch)
	if r.recorder != nil {
		r.recorder.record(at - time.Duration(s.due))
	}
	r.got.Add(1)
	r.bytes.Add(uint64(len(m.Body)))
	r.last.Store(int64(at))
}

// awaitMarkers waits until so many have come: then everything before them has, or is lost. It gives up when nothing at all
// comes for the time of patience; what is missing then counts as lost.
func (r *reader) awaitMarkers(ctx context.Context, count uint64, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for before := r.got.Load(); ; {
		select {
		case n := <-r.markers:
			if n >= count {
				return nil
			}
		case <-r.ended:
			if r.err != nil {
				return r.err
			}
			return errors.New("read: the subscription ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			now := r.got.Load()
			if now == before {
				return nil
			}
			before = now
			timer.Reset(patience)
		}
	}
}

// close ends the subscription and waits for readLoop.
func (r *reader) close() error {
	err := r.sub.Close()
	<-r.ended
	return errors.Join(r.err, err)
}
