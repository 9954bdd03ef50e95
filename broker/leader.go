package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Every node serves clients; what they write goes to the leader.

const (
	leaderEvery = 100 * time.Millisecond // how often a node looks who leads
	quorumWait  = 10 * time.Second       // without a leader for so long a node serves nobody (DESIGN section 3)
)

var errNoQuorum = &fault{code: protocol.CodeNoQuorum, text: "this node has had no contact to a leader for 10 s: most of the cluster is down or cut off from it; connect to another node or try again"}

// unconfirmed is the answer to a linearizable read when nobody can say what is the latest.
func (s *Server) unconfirmed(err error) *fault {
	switch {
	case errors.Is(err, cluster.ErrShutdown):
		return errShutdown
	case errors.Is(err, cluster.ErrMixed):
		return s.faultOf(err)
	}
	if !errors.Is(err, cluster.ErrUnconfirmed) { // this request waited for it no longer
		err = cluster.ErrUnconfirmed
	}
	return &fault{code: protocol.CodeNoQuorum, text: fmt.Sprintf("no linearizable answer within %v: %v; connect to another node or try again, or read what this node has", afterTimeout, err)}
}

// leadership is what a node knows of the leader. Owned by Run.
type leadership struct {
	seen time.Time // when there was one
	told string    // what clients were told
}

// Quorum is nil while there is a leader, or was one within the last 10 s; else it says why clients are refused.
func (s *Server) Quorum() error {
	if s.alone.Load() {
		return errors.New(errNoQuorum.text)
	}
	return nil
}

// leader is where clients reach the leader, "" if that is not known.
func (s *Server) leader() string {
	if _, self := s.options.Group.Leader(); self {
		return s.options.AdvertiseClient
	}
	return s.options.Group.LeaderClient()
}

// look tells clients of a new leader, and ends their connections when there is none for too long.
func (s *Server) look(l *leadership, now time.Time) {
	if id, _ := s.options.Group.Leader(); id != "" {
		l.seen = now
	}
	alone := now.Sub(l.seen) >= quorumWait
	if s.alone.Swap(alone) != alone {
		s.log.Warn("contact to a leader", "lost", alone)
	}
	if alone { // also those that came in meanwhile
		s.eachConn(func(c *conn) {
			if !c.patient {
				c.finish(errNoQuorum)
			}
		})
		return
	}
	if now := s.leader(); now != "" && now != l.told {
		l.told = now
		s.eachConn(func(c *conn) { c.out.push(&protocol.Event{Type: protocol.EventLeader, Text: now}, 0) })
	}
}

// judged is what this node judges requests by. It is read before a request is judged.
func (s *Server) judged() cluster.Judged {
	return cluster.Judged{Policy: s.Policy().Version(), Revocations: s.revoked.Load()}
}
