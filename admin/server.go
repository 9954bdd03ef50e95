package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/policy"
)

// Limits of one request. A client that is slower or wants more is cut off.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = time.Minute
	headerBytes    = 16 << 10
)

// Options are the parts of a node that the surface shows.
type Options struct {
	NodeID   string // only this node's own certificate may ask for health
	Identity *identity.Source
	Policy   func() *policy.Policy // the policy in force; nil while it is not known: then only the node itself is answered
	Gatherer prometheus.Gatherer
	Checks   []Check // readiness, in the order they are shown
	Logger   *slog.Logger
}

// Check is one condition of readiness. Func answers quickly and is called at every
// request, by many goroutines.
type Check struct {
	Name string
	Func func(context.Context) error
}

// Server answers HTTPS requests. Make one with New.
type Server struct {
	options Options
	http    *http.Server
	refused *refusals
}

// New builds a server; it opens nothing.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{options: o, refused: newRefusals()}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		TLSConfig:         o.Identity.ServerConfig(identity.AdminSide),
	}
	return s
}

// Serve accepts on a plain listener, speaks TLS on it, and returns when Shutdown was
// called or the listener fails.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	g := s.newGate(ctx, l)
	var accepting sync.WaitGroup
	accepting.Go(g.acceptLoop)
	err := s.http.Serve(g)
	g.Close()
	accepting.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve https: %w", err)
	}
	return nil
}

// Shutdown stops accepting and waits for requests in progress, at most until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut down https: %w", err), s.http.Close())
	}
	return nil
}
