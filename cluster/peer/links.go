package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Limits of the peer port. A cluster has a handful of nodes with a few links each.
const (
	handshakesMax    = 16
	handshakeTimeout = 5 * time.Second
	helloTimeout     = 5 * time.Second
	refuseTimeout    = time.Second
	linksPerNodeMax  = 32                    // accepted from one node
	acceptPause      = 50 * time.Millisecond // gives the machine time when it has run out of descriptors
)

// Options of Links. Zero values mean defaults where there is one.
type Options struct {
	Node     string // this node's id
	Software string // version of the program, told to others
	Identity *identity.Source

	// Cluster is the id of the cluster, "" while there is none. Disk is the incarnation of the data folder. Fresh is for a node
	// without a log: which nodes it waits for, as one word; "" otherwise.
	Cluster func() string
	Disk    string
	Fresh   func() string

	Client   string // HOST:PORT by which clients reach this node, told to others
	Commands uint64 // the highest kind of command that it can apply, told to others
	SealKey  []byte // public key to which secrets for it are sealed, told to others

	// Member says whether a node may have a link now: nil, or why not. An error that is no *RefusedError is told as
	// not_member.
	Member func(h *protocol.PeerHello) error

	// Handlers serve accepted links, by group and purpose. A handler owns the link until it returns; then the link is closed.
	Handlers map[Key]func(*Conn)

	Dial       func(ctx context.Context, network, address string) (net.Conn, error) // nil = TCP
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Key is what a link is for.
type Key struct {
	Group   string
	Purpose protocol.PeerPurpose
}

// Links are the links of a node. Make them with New, keep them going with Run, and give them a listener with Serve. Their
// methods may be used by many goroutines.
type Links struct {
	options Options
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{} // one per handshake under way
	work    sync.WaitGroup

	mu        sync.Mutex
	closing   bool                  // Guarded by mu.
	suspended error                 // Guarded by mu. Why no link may be; nil = they may.
	listener  net.Listener          // Guarded by mu.
	conns     map[*Conn]struct{}    // Guarded by mu.
	raw       map[net.Conn]struct{} // Guarded by mu. Accepted, and still shaking hands.
	accepted  map[string]int        // Guarded by mu. Links by node.
}

// New makes links; nothing is dialed or accepted yet.
func New(o Options) *Links {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Cluster == nil {
		o.Cluster = func() string { return "" }
	}
	if o.Fresh == nil {
		o.Fresh = func() string { return "" }
	}
	return &Links{options: o, log: o.Logger, metrics: newMetrics(o.Registerer), slots: make(chan struct{}, handshakesMax),
		conns: map[*Conn]struct{}{}, raw: map[net.Conn]struct{}{}, accepted: map[string]int{}}
}

// Run holds living links to the rules until ctx ends: after a change of certificates or revocations each is checked again.
func (l *Links) Run(ctx context.Context) error {
	changed, cancel := l.options.Identity.Changed()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			l.Recheck()
		}
	}
}

// Recheck ends the links whose certificate or membership no longer holds. Call it when members change.
func (l *Links) Recheck() {
	for _, c := range l.list() {
		err := l.options.Identity.Recheck(&c.peer)
		if err == nil {
			err = l.member(c.hello)
		}
		if err != nil {
			l.log.Warn("peer link ended", "peer", c.Node(), "group", c.key.Group, "purpose", c.key.Purpose.String(), "error", err)
			c.Close()
		}
	}
}

// Suspend ends every link and refuses new ones, in and out, until Resume: a node whose disk hangs cannot step down
// (DESIGN section 7), but followers that hear nothing elect another leader.
func (l *Links) Suspend(why error) {
	l.mu.Lock()
	l.suspended = why
	l.mu.Unlock()
	l.log.Error("peer links are suspended", "error", why)
	for _, c := range l.list() {
		c.Close()
	}
}

// Resume ends Suspend.
func (l *Links) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspended = nil
}

// Serve accepts links until the listener fails or Shutdown is called. The listener is theirs.
func (l *Links) Serve(ctx context.Context, listener net.Listener) error {
	l.mu.Lock()
	l.listener = listener
	closing := l.closing
	l.mu.Unlock()
	if closing {
		return listener.Close()
	}
	for {
		raw, err := listener.Accept()
		switch {
		case err == nil:
			l.admit(ctx, raw)
		case l.isClosing() || ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept peers: %w", err)
		default:
			l.log.Error("accept failed; trying again", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
}

// admit starts a link if there is room for its handshake.
func (l *Links) admit(ctx context.Context, raw net.Conn) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.metrics.refused("limit")
		raw.Close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		<-l.slots
		raw.Close()
		return
	}
	l.raw[raw] = struct{}{}
	l.work.Go(func() {
		c, err := l.welcome(ctx, raw)
		<-l.slots
		if err != nil {
			raw.Close()
			return
		}
		defer c.Close()
		l.options.Handlers[c.key](c)
	})
}

// welcome takes an accepted connection to the point where its handler may have it.
func (l *Links) welcome(ctx context.Context, raw net.Conn) (*Conn, error) {
	defer l.shaken(raw)
	guard := identity.Guard(raw)
	t := tls.Server(guard, l.options.Identity.ServerConfig(identity.PeerSide))
	if err := shake(ctx, t); err != nil {
		l.metrics.refused("tls")
		l.log.Warn("peer refused in TLS", "remote", raw.RemoteAddr().String(), "error", err)
		return nil, err
	}
	guard.Open()
	peer, err := l.options.Identity.Peer(t.ConnectionState())
	if err != nil {
		return nil, l.refuse(t, &peer, &RefusedError{protocol.CodeIdentity, err.Error()})
	}
	hello, id, err := readHello(t)
	if err == nil {
		err = l.check(&peer, hello)
	}
	if err != nil {
		return nil, l.refuse(t, &peer, err)
	}
	c := newConn(l, t, peer, hello)
	if err := l.add(c, true); err != nil {
		return nil, l.refuse(t, &peer, err)
	}
	if err := l.options.Identity.Recheck(&c.peer); err != nil { // a revocation may have come between
		c.Close()
		return nil, err
	}
	if err := writeFrame(t, l.welcomeMessage().AppendFrame(nil, id)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// shake is a handshake within its time.
func shake(ctx context.Context, t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return t.HandshakeContext(ctx)
}

// shaken forgets a connection that no longer shakes hands.
func (l *Links) shaken(raw net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.raw, raw)
}

// add registers a link, unless there may be none. From then on it ends with its certificate.
func (l *Links) add(c *Conn, accepted bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closing:
		return &RefusedError{protocol.CodeShutdown, "the node is stopping"}
	case l.suspended != nil:
		return &RefusedError{protocol.CodeOverloaded, fmt.Sprintf("the node takes no links: %v", l.suspended)}
	case accepted && l.accepted[c.Node()] >= linksPerNodeMax:
		return &RefusedError{protocol.CodeLimit, fmt.Sprintf("node %s has %d links to this node already", c.Node(), linksPerNodeMax)}
	}
	if accepted {
		l.accepted[c.Node()]++
		c.accepted = true
	}
	l.conns[c] = struct{}{}
	c.expiry = time.AfterFunc(time.Until(c.peer.NotAfter), c.expire)
	l.metrics.links.Set(float64(len(l.conns)))
	return nil
}

// remove forgets a link that ended.
func (l *Links) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.conns[c]; !there {
		return
	}
	delete(l.conns, c)
	c.expiry.Stop()
	if c.accepted {
		if l.accepted[c.Node()]--; l.accepted[c.Node()] == 0 {
			delete(l.accepted, c.Node())
		}
	}
	l.metrics.links.Set(float64(len(l.conns)))
}

func (l *Links) list() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		list = append(list, c)
	}
	return list
}

func (l *Links) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// Shutdown ends the listener and every link, and waits for the handlers until ctx ends.
func (l *Links) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	if l.listener != nil {
		l.listener.Close()
	}
	for raw := range l.raw {
		raw.Close()
	}
	l.mu.Unlock()
	for _, c := range l.list() {
		c.Close()
	}
	done := make(chan struct{})
	go func() {
		l.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down peer links: %w", context.Cause(ctx))
	}
}

// Dial opens a link to a node. An error is a *RefusedError if the other node said why, a TLS or network error otherwise;
// ctx bounds all of it.
func (l *Links) Dial(ctx context.Context, node, address string, key Key) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout+helloTimeout)
	defer cancel()
	raw, err := l.options.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", node, err)
	}
	c, err := l.greet(ctx, raw, node, key)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial node %s at %s: %w", node, address, err), raw.Close())
	}
	return c, nil
}

// greet takes a dialed connection to PEER_WELCOME.
func (l *Links) greet(ctx context.Context, raw net.Conn, node string, key Key) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	guard := identity.Guard(raw)
	t := tls.Client(guard, l.options.Identity.DialConfig(node))
	if err := shake(ctx, t); err != nil {
		return nil, err
	}
	guard.Open()
	peer, err := l.options.Identity.Peer(t.ConnectionState())
	if err != nil {
		return nil, err
	}
	o := &l.options
	hello := &protocol.PeerHello{Versions: []uint64{protocol.PeerVersion}, Cluster: o.Cluster(), From: o.Node, To: node, Group: key.Group, Purpose: key.Purpose, Disk: o.Disk, Software: o.Software,
		Client: o.Client, Commands: o.Commands, Fresh: o.Fresh(), SealKey: o.SealKey}
	writeErr := writeFrame(t, hello.AppendFrame(nil, 1))
	w, err := readWelcome(t) // also if that failed: the other node may have hung up, and its alert says so
	if err != nil {
		return nil, errors.Join(refusedInTLS(err), writeErr)
	}
	answer := &protocol.PeerHello{Versions: []uint64{w.Version}, Cluster: w.Cluster, From: w.Node, To: o.Node, Group: key.Group, Purpose: key.Purpose, Disk: w.Disk, Software: w.Software, Features: w.Features,
		Client: w.Client, Commands: w.Commands, Fresh: w.Fresh, SealKey: w.SealKey}
	if err := l.checkNode(&peer, answer); err != nil {
		return nil, err
	}
	c := newConn(l, t, peer, answer)
	return c, l.add(c, false)
}
