package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
)

// Bounds of callers. The surface is for a few monitoring systems.
const (
	handshakeTimeout = 5 * time.Second
	handshakesMax    = 32  // under way
	connectionsMax   = 256 // in all; one beyond is closed without a word
	acceptPause      = 50 * time.Millisecond
)

// gate is the listener that http.Server sees: only connections that shook hands get through. http.Server would do that
// itself, but without a bound on how many at once and how many bytes, and without a word in the log.
type gate struct {
	s       *Server
	plain   net.Listener
	config  *tls.Config
	ctx     context.Context
	cancel  context.CancelFunc
	through chan *tls.Conn
	failed  chan error // cap 1: why plain accepts no more
	places  chan struct{}
	shaking chan struct{}
	work    sync.WaitGroup
}

func (s *Server) newGate(ctx context.Context, l net.Listener) *gate {
	g := &gate{s: s, plain: l, config: s.options.Identity.ServerConfig(identity.AdminSide), through: make(chan *tls.Conn), failed: make(chan error, 1),
		places: make(chan struct{}, connectionsMax), shaking: make(chan struct{}, handshakesMax)}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// Accept returns the next connection that shook hands.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.through:
		return c, nil
	case err := <-g.failed:
		return nil, err
	case <-g.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the address of the listener.
func (g *gate) Addr() net.Addr { return g.plain.Addr() }

// Close ends accepting and cuts handshakes under way.
func (g *gate) Close() error {
	g.cancel()
	return g.plain.Close()
}

// acceptLoop takes connections until the listener is closed or fails.
func (g *gate) acceptLoop() {
	defer g.work.Wait()
	for {
		raw, err := g.plain.Accept()
		var passing net.Error
		switch {
		case err == nil:
			g.admit(raw)
		case errors.As(err, &passing) && !errors.Is(err, net.ErrClosed) && g.ctx.Err() == nil:
			g.s.options.Logger.Error("accept failed; trying again", "listener", "https", "error", err)
			select {
			case <-time.After(acceptPause): // the machine may have run out of descriptors
			case <-g.ctx.Done():
			}
		default:
			g.failed <- err
			return
		}
	}
}

// admit starts a handshake if there is a place.
func (g *gate) admit(raw net.Conn) {
	select {
	case g.places <- struct{}{}:
	default:
		g.turnAway(raw, "connections")
		return
	}
	c := &placed{Conn: raw, leave: sync.OnceFunc(func() { <-g.places })}
	select {
	case g.shaking <- struct{}{}:
	default:
		g.turnAway(c, "handshakes at once")
		return
	}
	g.work.Go(func() {
		defer func() { <-g.shaking }()
		g.shake(c)
	})
}

func (g *gate) turnAway(raw net.Conn, limit string) {
	g.s.refused.warn(g.s.options.Logger, "connection turned away", "listener", "https", "limit", limit, "remote", raw.RemoteAddr().String())
	raw.Close()
}

// shake shakes hands and hands the connection on.
func (g *gate) shake(raw net.Conn) {
	guard := identity.Guard(raw)
	t := tls.Server(guard, g.config)
	ctx, cancel := context.WithTimeout(g.ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		why := g.s.options.Identity.Refusal(identity.AdminSide, err)
		g.s.refused.warn(g.s.options.Logger, "handshake refused", "listener", "https", "remote", raw.RemoteAddr().String(), "reason", string(why.Reason), "identity", identity.Printable(why.Identity, 256), "error", identity.Printable(why.Detail, 512))
		raw.Close()
		return
	}
	guard.Open()
	select {
	case g.through <- t:
	case <-g.ctx.Done():
		raw.Close()
	}
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
