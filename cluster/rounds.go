package cluster

import (
	"context"
	"sync"
)

// rounds answers one question for many at once. Who asks while an answer is being found waits for the next round: every answer
// was found after its question came. Its methods may be used by many goroutines, but Run by one.
type rounds struct {
	find func(ctx context.Context) (uint64, error) // finds an answer; it has bounds of its own
	wake chan struct{}                             // cap 1: somebody asks

	mu     sync.Mutex
	next   *round // Guarded by mu. That whoever asks now belongs to; nil = nobody asks.
	closed bool   // Guarded by mu.
}

// round is one answer.
type round struct {
	done  chan struct{} // closed once there is one
	index uint64        // Written before done is closed, read after.
	err   error         // The same.
}

func (r *rounds) init(find func(context.Context) (uint64, error)) {
	r.find, r.wake = find, make(chan struct{}, 1)
}

// ask waits for an answer that is found from now on.
func (r *rounds) ask(ctx context.Context) (uint64, error) {
	mine, err := r.join()
	if err != nil {
		return 0, err
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case <-mine.done:
		return mine.index, mine.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (r *rounds) join() (*round, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrShutdown
	}
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	return r.next, nil
}

// take begins the next round; nil = nobody asks.
func (r *rounds) take(closing bool) *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.next
	r.next, r.closed = nil, closing
	return taken
}

// run finds answers until ctx ends, one after the other.
func (r *rounds) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-r.wake:
		case <-ctx.Done():
			continue
		}
		if now := r.take(false); now != nil {
			now.index, now.err = r.find(ctx)
			close(now.done)
		}
	}
	if last := r.take(true); last != nil {
		last.err = ErrShutdown
		close(last.done)
	}
}
