package broker_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestT07AcrossCluster: a session that was saved on one node resumes on every other, also when the one that gave it is gone. After a
// revocation of somebody else each node wants a full handshake, once; who is revoked is refused by each, with a ticket and
// without.
func TestT07AcrossCluster(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		time.Sleep(5 * time.Second) // the leader learns to what to seal, and makes a key
		leader := s.Leader()
		orders, victim := keeping(leader, "orders"), keeping(leader, "victim")
		visit := func(n *brokertest.Node, conf *tls.Config, resumed bool) {
			t.Helper()
			r := n.ConnectWith(t, conf)
			r.Hello()
			if r.Welcome.Resumed != resumed || r.ConnectionState().DidResume != resumed {
				t.Errorf("node %s: resumed %t, the client says %t, want %t", r.Welcome.Node, r.Welcome.Resumed, r.ConnectionState().DidResume, resumed)
			}
			r.Close()
		}
		visit(leader, orders, false)
		visit(leader, victim, false)
		for range 2 {
			for _, n := range s.Nodes {
				visit(n, orders, true)
			}
		}

		revoke := func(name string) {
			t.Helper()
			admin := leader.Dial(t, "admin")
			defer admin.Close()
			entry := protocol.Revocation{What: protocol.RevokeIdentity, Value: "spiffe://test.example/client/" + name}
			ok, done := admin.Ask(&protocol.Revoke{Entry: entry}).(*protocol.OK)
			if !done {
				t.Fatal("not revoked")
			}
			for _, n := range s.Nodes {
				if err := n.Group.WaitApplied(t.Context(), ok.Applied); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second) // each broker takes it over
		}
		revoke("somebody")
		first := true
		for _, n := range s.Nodes {
			visit(n, orders, !first) // the first one gives a ticket of the new generation
			first = false
		}
		revoke("victim")
		victim.ClientSessionCache = saved{victim.ClientSessionCache} // even who is refused gets a ticket, which is refused again
		for id, n := range s.Nodes {
			for how, conf := range map[string]*tls.Config{"with a ticket": victim, "anew": keeping(n, "victim")} {
				r := n.ConnectWith(t, conf)
				r.Send(&protocol.Hello{Versions: []uint64{protocol.Version}})
				if m := r.Receive(); brokertest.Code(m) != protocol.CodeRevoked || r.ConnectionState().DidResume {
					t.Errorf("%s, %s: got %#v, resumed %t", id, how, m, r.ConnectionState().DidResume)
				}
				r.Close()
			}
		}

		visit(leader, orders, false)
		for id, n := range s.Nodes {
			if n == leader {
				s.Kill(id)
				break
			}
		}
		for _, n := range s.Nodes {
			visit(n, orders, true)
		}
	})
}

// saved is a session that is not replaced by what comes later.
type saved struct{ tls.ClientSessionCache }

func (saved) Put(string, *tls.ClientSessionState) {}

// keeping is a client's config that keeps sessions.
func keeping(n *brokertest.Node, name string) *tls.Config {
	conf := n.PKI.ClientConfig(n.PKI.Client(name), identity.ALPNClient)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return conf
}
