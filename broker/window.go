package broker

import (
	"context"
	"sync"
)

// window bounds the bytes of a connection's publishes that are not answered. The reader waits in
// it, so TCP slows the client down.
type window struct {
	most int

	mu    sync.Mutex
	used  int           // Guarded by mu.
	freed chan struct{} // cap 1
}

// enter waits until n bytes fit. A publish larger than the window fits an empty one.
func (w *window) enter(ctx context.Context, n int) error {
	for {
		w.mu.Lock()
		if w.used == 0 || w.used+n <= w.most {
			w.used += n
			w.mu.Unlock()
			return nil
		}
		w.mu.Unlock()
		select {
		case <-w.freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave frees n bytes.
func (w *window) leave(n int) {
	w.mu.Lock()
	w.used -= n
	w.mu.Unlock()
	select {
	case w.freed <- struct{}{}:
	default:
	}
}
