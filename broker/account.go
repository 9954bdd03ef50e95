package broker

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/waxwing-mq/waxwing/protocol"
)

// account is what all connections of one identity share. It outlives them while the pace at which they came is remembered.
type account struct {
	conns    int           // Guarded by Server.mu.
	pace     *rate.Limiter // of connections
	inFlight atomic.Int64  // bytes of publishes that are not answered
}

// accountsKept is how many accounts are looked through for some that can be forgotten, at the least.
const accountsKept = 1024

// sweepLocked forgets the accounts without a connection that came slowly enough. It costs little for each connection:
// the next sweep comes when there are twice as many as were left.
func (s *Server) sweepLocked(now time.Time) {
	if len(s.accounts) < s.sweepAt {
		return
	}
	for id, a := range s.accounts {
		if a.conns == 0 && a.pace.TokensAt(now) >= float64(a.pace.Burst()) {
			delete(s.accounts, id)
		}
	}
	s.sweepAt = max(accountsKept, 2*len(s.accounts))
}

// enter counts a connection in, or says which limit is reached.
func (s *Server) enter(c *conn) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errShutdown
	}
	if most := s.options.Limits.Connections; len(s.conns) >= most {
		return limitFault("connections", most)
	}
	now := time.Now()
	a := s.accounts[c.peer.Principal]
	if a == nil {
		s.sweepLocked(now)
		most := s.options.Limits.ConnectsPerSecond
		a = &account{pace: rate.NewLimiter(rate.Limit(most), most)}
		s.accounts[c.peer.Principal] = a
	}
	if !a.pace.AllowN(now, 1) {
		return limitFault("connects_per_second", s.options.Limits.ConnectsPerSecond)
	}
	if most := s.options.Limits.ConnectionsPerIdentity; a.conns >= most {
		return limitFault("connections_per_identity", most)
	}
	a.conns++
	c.account = a
	s.conns[c] = struct{}{}
	s.metrics.connections.Set(float64(len(s.conns)))
	return nil
}

// leave counts it out.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.account.conns--
	s.metrics.connections.Set(float64(len(s.conns)))
}

// limitFault is the refusal when a configured count is reached.
func limitFault(key string, most int) *fault {
	return &fault{code: protocol.CodeLimit, limit: key, text: fmt.Sprintf("limits.%s is %d and reached; close something first, or ask the operator to raise it", key, most)}
}
