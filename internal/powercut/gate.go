package powercut

import (
	"context"
	"sync"
)

// gate knows where the broker listens and makes those who dial wait while it does not: a client
// that is refused again and again waits longer and longer before it tries anew.
type gate struct {
	mu      sync.Mutex
	address string        // Guarded by mu. "" = closed.
	opened  chan struct{} // Guarded by mu. Made by who waits first, closed by open.
}

// open lets through to address; "" closes.
func (g *gate) open(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.address = address
	if address != "" && g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// await returns the address once there is one.
func (g *gate) await(ctx context.Context) (string, error) {
	for {
		address, opened := g.look()
		if address != "" {
			return address, nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func (g *gate) look() (string, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.address, g.opened
}
