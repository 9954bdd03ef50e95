package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/storage"
)

// Options are the parts of a node that the broker works with.
type Options struct {
	NodeID          string
	Version         string // of the program, told to clients
	AdvertiseClient string // HOST:PORT by which clients reach this node
	Group           *cluster.Group
	Log             *storage.Log
	Identity        *identity.Source
	Limits          Limits // zero = DefaultLimits
	Logger          *slog.Logger
	Registerer      prometheus.Registerer
}

// Server serves clients. Make it with New, keep it going with Run, and give it listeners
// with Serve. Its methods may be used by many goroutines.
type Server struct {
	options   Options
	log       *slog.Logger
	metrics   *metrics
	denials   denials
	slots     chan struct{} // one per handshake under way
	pace      *rate.Limiter
	groups    groups
	snapshots chan struct{} // one per open snapshot
	policy    atomic.Pointer[policy.Policy]
	unusable  atomic.Pointer[error] // why the policy in the state does not compile, nil = it does

	alone   atomic.Bool   // there has been no leader for quorumWait
	revoked atomic.Uint64 // version of the revocation list that every connection was held to

	connections sync.WaitGroup

	follow   sync.Mutex // One sync at a time.
	revision uint64     // Guarded by follow. Revocation version that identity has.

	mu        sync.Mutex
	closing   bool                            // Guarded by mu.
	listeners map[net.Listener]struct{}       // Guarded by mu.
	conns     map[*conn]struct{}              // Guarded by mu.
	accounts  map[identity.Principal]*account // Guarded by mu.
	sweepAt   int                             // Guarded by mu. So many accounts are swept.
}

// New builds a server and takes over the policy and the revocations that the state holds.
func New(o Options) (*Server, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if err := o.Limits.Check(); err != nil {
		return nil, fmt.Errorf("new broker: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		options:   o,
		log:       o.Logger,
		slots:     make(chan struct{}, o.Limits.HandshakesAtOnce),
		snapshots: make(chan struct{}, snapshotsMax),
		pace:      rate.NewLimiter(rate.Limit(o.Limits.HandshakesPerSecond), o.Limits.HandshakesPerSecond),
		listeners: map[net.Listener]struct{}{},
		conns:     map[*conn]struct{}{},
		accounts:  map[identity.Principal]*account{},
		sweepAt:   accountsKept,
	}
	s.metrics = newMetrics(o.Registerer, s)
	s.policy.Store(policy.DenyAll(0))
	s.sync()
	return s, nil
}

// Policy is the compiled policy in force.
func (s *Server) Policy() *policy.Policy { return s.policy.Load() }

// PolicyFault says why the policy of the state cannot be used on this node; everything is
// then denied. nil = it is in force.
func (s *Server) PolicyFault() error {
	if err := s.unusable.Load(); err != nil {
		return *err
	}
	return nil
}

// Run follows policy, topics, revocations and certificates until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	changed, cancel := s.options.Group.Watch()
	defer cancel()
	trust, cancelTrust := s.options.Identity.Changed()
	defer cancelTrust()
	look := time.NewTicker(leaderEvery)
	defer look.Stop()
	l := leadership{time.Now(), s.leader()}
	s.lookGroups(time.Now())
	s.sync()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-look.C:
			s.look(&l, now)
			s.lookGroups(now)
		case <-changed:
			s.sync()
		case <-trust:
			s.recheck()
		}
	}
}

// Serve accepts connections from a plain listener until Shutdown or until the listener
// fails. It speaks TLS itself.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.addListener(l) {
		return l.Close()
	}
	for {
		raw, err := l.Accept()
		if s.isClosing() || ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if err != nil {
			if !passing(err) {
				return fmt.Errorf("accept clients: %w", err)
			}
			s.log.Error("accept failed; trying again", "error", err)
			if !pause(ctx, acceptPause) {
				return nil
			}
			continue
		}
		s.admit(ctx, raw)
	}
}

// acceptPause gives the machine time when it has run out of descriptors.
const acceptPause = 50 * time.Millisecond

// passing reports whether accepting may work again: a net.Error that is no closed listener.
func passing(err error) bool {
	var failed net.Error
	return errors.As(err, &failed) && !errors.Is(err, net.ErrClosed)
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// admit starts a connection if there is room for its handshake.
func (s *Server) admit(ctx context.Context, raw net.Conn) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.turnAway(raw, "handshakes_at_once")
		return
	}
	if !s.pace.Allow() {
		<-s.slots
		s.turnAway(raw, "handshakes_per_second")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		<-s.slots
		raw.Close()
		return
	}
	s.connections.Go(func() { s.welcome(ctx, raw) })
}

// turnAway closes a connection without a word: a TLS alert would cost what the limit saves.
func (s *Server) turnAway(raw net.Conn, limit string) {
	s.metrics.refused("limit_" + limit)
	if skipped, ok := s.denials.allow(limit, "limit"); ok {
		s.log.Warn("connection turned away", "limit", limit, "remote", raw.RemoteAddr().String(), "suppressed", skipped)
	}
	raw.Close()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Shutdown stops accepting, tells every client, also who leads if another node does, and waits for the connections to end; when
// ctx ends first they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	conns := s.connsLocked()
	s.mu.Unlock()
	leader := s.leader()
	for _, c := range conns {
		if leader != "" && leader != s.options.AdvertiseClient {
			c.out.push(&protocol.Event{Type: protocol.EventLeader, Text: leader}, 0)
		}
		c.finish(errShutdown)
	}
	done := make(chan struct{})
	go func() {
		s.connections.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, c := range conns {
			c.cut()
		}
		<-done
		return fmt.Errorf("shut down broker: %w", context.Cause(ctx))
	}
}

// connsLocked lists the connections.
func (s *Server) connsLocked() []*conn {
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// eachConn calls f for every connection.
func (s *Server) eachConn(f func(*conn)) {
	s.mu.Lock()
	conns := s.connsLocked()
	s.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}
