package memnet

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// Network connects dialers to listeners by address. The zero value is ready. Its
// methods may be used by many goroutines at once.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener // Guarded by mu.
	dialed    int                  // Guarded by mu.
	pipes     []pipes              // Guarded by mu. Connections of a host that has a name.
	held      map[way]bool         // Guarded by mu.
	released  chan struct{}        // Guarded by mu. Closed by the next Release; nil = nobody waits.
}

// way is a direction between hosts.
type way struct{ from, to string }

// pipes is a connection between two hosts.
type pipes struct {
	way         // from who dialed
	there, back *buffer
}

// Listen opens an address, which may be any text that is not in use.
func (n *Network) Listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		return nil, fmt.Errorf("listen %s: address already in use", address)
	}
	if n.listeners == nil {
		n.listeners = map[string]*listener{}
	}
	l := &listener{network: n, address: addr(address), accept: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[address] = l
	return l, nil
}

// DialContext connects to a listener; it has the shape of net.Dialer.DialContext. It
// returns once the listener has accepted.
func (n *Network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.dialed++
	local := addr(fmt.Sprintf("dialer-%d", n.dialed))
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	here, there := pipe(local, l.address)
	return l.connect(ctx, here, there)
}

// From is DialContext of a host with a name, for Hold. Its listeners' addresses must be that name, or begin with it and a colon.
func (n *Network) From(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		to, _, _ := strings.Cut(address, ":")
		w := way{host, to}
		if err := n.awaitOpen(ctx, w); err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		n.mu.Lock()
		l := n.listeners[address]
		n.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("dial %s: connection refused", address)
		}
		there, back := newBuffer(), newBuffer()
		n.add(pipes{w, there, back})
		return l.connect(ctx, newConn(back, there, addr(host), l.address), newConn(there, back, l.address, addr(host)))
	}
}

// awaitOpen waits until both ways between two hosts are open.
func (n *Network) awaitOpen(ctx context.Context, w way) error {
	for {
		n.mu.Lock()
		if !n.held[w] && !n.held[way{w.to, w.from}] {
			n.mu.Unlock()
			return nil
		}
		if n.released == nil {
			n.released = make(chan struct{})
		}
		released := n.released
		n.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add keeps a connection, for Hold, and forgets those that are over.
func (n *Network) add(p pipes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pipes = slices.DeleteFunc(n.pipes, func(p pipes) bool { return p.there.over() && p.back.over() })
	n.pipes = append(n.pipes, p)
	n.applyLocked(p)
}

// Hold cuts the way from one host to another, for connections that a dialer of From made, and those that it will make. Nothing
// that is sent that way arrives, also not the end of a connection; nothing fails either.
func (n *Network) Hold(from, to string) { n.set(way{from, to}, true) }

// Release ends Hold: what was sent arrives.
func (n *Network) Release(from, to string) { n.set(way{from, to}, false) }

func (n *Network) set(w way, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held == nil {
		n.held = map[way]bool{}
	}
	n.held[w] = held
	for _, p := range n.pipes {
		n.applyLocked(p)
	}
	if !held && n.released != nil {
		close(n.released)
		n.released = nil
	}
}

func (n *Network) applyLocked(p pipes) {
	there, back := n.held[p.way], n.held[way{p.to, p.from}]
	p.there.hold(there, back)
	p.back.hold(back, there)
}

// connect gives Accept the other end.
func (l *listener) connect(ctx context.Context, here, there net.Conn) (_ net.Conn, err error) {
	select {
	case l.accept <- there:
		return here, nil
	case <-l.done:
		err = fmt.Errorf("dial %s: connection refused", l.address)
	case <-ctx.Done():
		err = fmt.Errorf("dial %s: %w", l.address, context.Cause(ctx))
	}
	here.Close()
	there.Close()
	return nil, err
}

func (n *Network) remove(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, address)
}

// listener hands dialed connections to Accept.
type listener struct {
	network *Network
	address addr
	accept  chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.network.remove(string(l.address))
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.address }
