package storage

import (
	"context"
	"log/slog"
	"sync"
)

// nextBuilder keeps the segment to come open, so that a cut does not wait for Badger to open a database.
type nextBuilder struct {
	open   func(number uint64) (*builder, error)
	wanted chan struct{} // cap 1
	log    *slog.Logger
	fail   func(error)

	mu     sync.Mutex // held while it opens: take waits for that
	number uint64     // Guarded by mu. 0 = it was taken.
	ready  *builder   // Guarded by mu. nil = not opened yet.
}

// prepare asks for segment number to be opened in the background.
func (n *nextBuilder) prepare(number uint64) {
	n.mu.Lock()
	n.number, n.ready = number, nil
	n.mu.Unlock()
	select {
	case n.wanted <- struct{}{}:
	default:
	}
}

// loop opens what is wanted until ctx ends. When something has run out, such as space, take tries again; any other
// failure is final.
func (n *nextBuilder) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wanted:
			switch err := n.ahead(); {
			case isShort(err):
				n.log.Warn("the next segment was not opened ahead of time; it is tried again at the cut", "error", err)
			case err != nil:
				n.fail(err)
				return
			}
		}
	}
}

// ahead opens the segment to come, if it is not.
func (n *nextBuilder) ahead() (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready == nil && n.number > 0 {
		n.ready, err = n.open(n.number)
	}
	return err
}

// take returns the next segment, opened.
func (n *nextBuilder) take() (*builder, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready == nil {
		b, err := n.open(n.number)
		if err != nil {
			return nil, err
		}
		n.ready = b
	}
	b := n.ready
	n.ready, n.number = nil, 0
	return b, nil
}

// close gives up a segment that was never used.
func (n *nextBuilder) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.ready
	n.ready = nil
	if b == nil {
		return nil
	}
	return b.discard()
}
