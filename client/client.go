package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// tickEvery is how often silence, publish timeouts and old metadata are looked for.
const tickEvery = time.Second

// steadyAfter is how long an idle connection must have lived for the next pause to be short.
const steadyAfter = 5 * time.Second

// Client is one identity's connection to a broker, kept up until Close. It is safe
// for concurrent use; one per process is usually right.
//
// Locks are taken in this order: carrying, Subscription.mu or producer.mu, then Client.mu or
// session.mu. No lock but carrying is held across I/O or a call into the program.
type Client struct {
	opts     Options
	log      *slog.Logger
	source   *identity.ClientSource
	servers  *serverList
	producer *producer
	events   *eventQueue
	applied  atomic.Uint64 // highest raft index an answer has told
	sessions atomic.Uint64 // number of the latest session
	hinted   chan struct{} // holds 1: leaderLoop has something to look at
	carrying sync.Mutex    // one change of the producer's session at a time; taken before all other locks, and held while a session is drained

	stop context.CancelFunc // ends the loops
	wg   sync.WaitGroup     // the loops

	mu sync.Mutex
	// Guarded by mu.
	sess    *session      // nil while disconnected
	lead    *session      // a second one, to the leader, for publishing; nil = the producer shares sess
	same    string        // address of a leader that is the node of sess
	sameAs  uint64        // the number of sess then
	last    lastSession   // what the latest session was welcomed with
	refused error         // the broker refuses us for good; cleared by a connect
	lastErr error         // why the latest attempt failed
	closed  bool          // Close was called
	changed chan struct{} // closed and replaced when sess, refused or closed changes
	subs    map[uint64]*Subscription
	nextSub uint64 // of subscriptions and consumers

	consumers map[uint64]*Consumer // guarded by mu
}

type lastSession struct {
	welcome protocol.Welcome
	state   tls.ConnectionState
}

// Dial connects to the first server that welcomes the client. It tries every server
// once; retrying beyond that is the caller's choice. Once connected, the client
// reconnects by itself until Close.
//
// Errors: ErrOptions when the options or the files they name cannot be used,
// *TLSError when TLS fails, *RefusedError when the broker refuses the identity,
// *ConnectError when no broker can be reached.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	source, err := identity.OpenClient(identity.ClientOptions{
		CertFile: opts.CertFile, KeyFile: opts.KeyFile, CAFile: opts.CAFile,
		CertPEM: opts.CertPEM, KeyPEM: opts.KeyPEM, CAPEM: opts.CAPEM,
		ServerName: opts.ServerName, TrustDomain: opts.TrustDomain, Sessions: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	c := newClient(opts, source)
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.run(s)
	return c, nil
}

func newClient(opts Options, source *identity.ClientSource) *Client {
	c := &Client{
		opts: opts, log: opts.Logger, source: source,
		servers: &serverList{addrs: opts.Servers},
		events:  newEventQueue(opts.OnEvent),
		changed: make(chan struct{}),
		hinted:  make(chan struct{}, 1),
		subs:    make(map[uint64]*Subscription),

		consumers: make(map[uint64]*Consumer),
	}
	c.producer = newProducer(c)
	return c
}

// run starts the loops; Close stops and awaits them.
//
//	connectLoop ── session ┬─ readLoop   answers, deliveries, events
//	            (one a time)└─ writeLoop  control frames, batches
//	leaderLoop     a second session, to the leader, for publishing
//	maintainLoop   keep-alive, publish timeouts
//	events.loop    OnEvent
//	source.Run     certificate files
func (c *Client) run(s *session) {
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.attach(s)
	c.wg.Go(func() { c.connectLoop(ctx, s) })
	c.wg.Go(func() { c.leaderLoop(ctx) })
	c.wg.Go(func() { c.maintainLoop(ctx) })
	c.wg.Go(func() { c.events.loop(ctx) })
	c.wg.Go(func() { c.watchFiles(ctx) })
}

// connectLoop owns the session: it waits for its end and makes the next.
func (c *Client) connectLoop(ctx context.Context, s *session) {
	var wait backoff
	for s != nil {
		c.detach(s, s.waitOr(ctx))
		if s.useful.Load() || time.Since(s.born) > steadyAfter {
			wait.reset()
		}
		s = c.reconnect(ctx, &wait)
	}
}

// reconnect tries until it has a session, or returns nil when ctx ends. The pause
// grows until a connection was of use.
func (c *Client) reconnect(ctx context.Context, wait *backoff) *session {
	pause := wait.next()
	for sleep(ctx, pause) == nil {
		s, err := c.connect(ctx)
		if err == nil {
			c.attach(s)
			return s
		}
		pause = wait.next()
		c.connectFailed(err, pause)
	}
	return nil
}

// attach makes s the session: publishes and subscriptions go on over it.
func (c *Client) attach(s *session) {
	s.start()
	c.mu.Lock()
	c.sess, c.refused, c.lastErr = s, nil, nil
	if c.last.welcome.Cluster != s.welcome.Cluster {
		c.applied.Store(0) // another cluster counts anew
	}
	c.last = lastSession{s.welcome, s.state}
	subs := make([]*Subscription, 0, len(c.subs))
	for _, sub := range c.subs {
		subs = append(subs, sub)
	}
	c.changedLocked()
	c.mu.Unlock()

	c.log.Info("connected", "server", s.server, "node", s.welcome.Node, "identity", s.welcome.Identity, "resumed", s.welcome.Resumed)
	c.events.put(&ConnectedEvent{Server: s.server, Node: s.welcome.Node, Resumed: s.welcome.Resumed})
	c.carry()
	poke(c.hinted)
	for _, sub := range subs {
		sub.resume(s)
	}
	for _, k := range c.memberships() {
		k.attach()
	}
}

// detach takes the ended session out of use.
func (c *Client) detach(s *session, err error) {
	c.mu.Lock()
	c.sess, c.lastErr = nil, err
	closed := c.closed
	c.changedLocked()
	c.mu.Unlock()
	c.servers.lost(s.server)
	c.carry()
	for _, k := range c.memberships() {
		k.lost(s)
	}
	if !closed {
		c.log.Warn("disconnected", "server", s.server, "error", err)
		c.events.put(&DisconnectedEvent{Server: s.server, Err: err})
	}
}

// connectFailed notes a failed attempt. A refusal for good ends everything that
// waits; attempts go on, because the certificate files may be replaced.
func (c *Client) connectFailed(err error, retry time.Duration) {
	c.log.Warn("reconnect failed", "error", err, "retry", retry)
	c.events.put(&ConnectFailedEvent{Err: err, Retry: retry})
	c.mu.Lock()
	c.lastErr = err
	if !final(err) {
		c.mu.Unlock()
		return
	}
	c.refused = err
	subs := c.subs
	c.subs = make(map[uint64]*Subscription)
	c.changedLocked()
	c.mu.Unlock()
	c.producer.failAll(err)
	for _, sub := range subs {
		sub.end(err)
	}
	for _, k := range c.memberships() {
		k.end(err)
	}
}

func (c *Client) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// maintainLoop does what needs a clock.
func (c *Client) maintainLoop(ctx context.Context) {
	every := min(tickEvery, c.opts.KeepAlive/2)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			c.mu.Lock()
			sessions, lastErr := []*session{c.sess, c.lead}, c.lastErr
			c.mu.Unlock()
			for _, s := range sessions {
				if s != nil {
					s.tick(now, c.opts.KeepAlive)
				}
			}
			c.producer.expire(now, lastErr)
			c.producer.lookAgain(now)
		case <-ctx.Done():
			return
		}
	}
}

// watchFiles reloads the certificate files when they change. Connections that are up
// keep what they were made with; the next one uses the new.
func (c *Client) watchFiles(ctx context.Context) {
	err := c.source.Run(ctx, func(err error) {
		if err != nil {
			c.log.Error("certificate files not reloaded, the old ones stay in use", "error", err)
			c.events.put(&ReloadFailedEvent{Err: err})
		}
	})
	if err != nil && ctx.Err() == nil {
		c.log.Error("certificate files are no longer watched", "error", err)
		c.events.put(&ReloadFailedEvent{Err: err})
	}
}

// onEvent handles an event of the connection.
func (c *Client) onEvent(m *protocol.Event) {
	switch m.Type {
	case protocol.EventExpiring:
		c.events.put(&ExpiringEvent{NotAfter: time.UnixMilli(int64(m.Value))})
	case protocol.EventClosing:
		c.events.put(&ClosingEvent{Reason: m.Text})
	case protocol.EventLeader:
		c.hint(m.Text)
		c.events.put(&LeaderEvent{Server: m.Text})
	case protocol.EventPolicy:
		c.events.put(&PolicyEvent{Version: m.Value})
	}
}

// session returns the session in use, waiting for one if there is none.
func (c *Client) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, changed, closed, refused, lastErr := c.sess, c.changed, c.closed, c.refused, c.lastErr
		c.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case s != nil:
			return s, nil
		case refused != nil:
			return nil, refused
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(ended(ctx), lastErr)
		}
	}
}

// identity is who the broker last said we are.
func (c *Client) identity() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.welcome.Identity
}

// Welcome returns what the broker said when it last welcomed the client: node,
// cluster, version, limits, and the identity as it sees it.
func (c *Client) Welcome() protocol.Welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.welcome
}

// ConnectionState returns the TLS state of the connection, and false when there is
// none at the moment (the state is then the one of the latest connection).
func (c *Client) ConnectionState() (tls.ConnectionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.state, c.sess != nil
}

// Close publishes what is buffered, waits for the answers until ctx ends, closes
// subscriptions and connection, and waits for every goroutine of the client. What is
// unanswered by then ends with ErrClosed, as *UnknownOutcomeError if it was sent.
// Close may be called more than once.
func (c *Client) Close(ctx context.Context) error {
	c.producer.refuseNew()
	err := c.producer.flush(ctx)

	c.mu.Lock()
	first := !c.closed
	c.closed = true
	subs := c.subs
	c.subs = make(map[uint64]*Subscription)
	if first {
		c.changedLocked()
	}
	c.mu.Unlock()

	c.producer.failAll(ErrClosed)
	for _, sub := range subs {
		sub.end(ErrClosed)
	}
	for _, k := range c.memberships() {
		err = errors.Join(err, k.flush(ctx))
		k.end(ErrClosed)
	}
	c.stop()
	c.wg.Wait()
	if err != nil && first {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
