package broker_test

import (
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestClusterStatus: each node shows all of them; a bad id is refused before the leader hears of it; a change through a follower
// takes place.
func TestClusterStatus(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		for id, n := range s.Nodes {
			time.Sleep(3 * time.Second) // all hear of the leader
			c := n.Dial(t, "admin")
			got, ok := c.Ask(&protocol.ClusterStatus{}).(*protocol.Cluster)
			if !ok || got.Node != id || got.Leader == "" || len(got.Members) != 3 || got.Members[0].Fault != "" || got.Members[2].Figures.Applied == 0 {
				t.Errorf("%s: %+v", id, got)
			}
			for _, bad := range []string{"", "a/b", "ü", "n 4"} {
				if m := c.Ask(&protocol.MemberJoin{Node: bad, Address: "h:1"}); brokertest.Code(m) != protocol.CodeInvalid {
					t.Errorf("join %q: %+v", bad, m)
				}
			}
			if m := c.Ask(&protocol.MemberRemove{Node: "n9"}); brokertest.Code(m) != protocol.CodeNotFound {
				t.Errorf("remove n9: %+v", m)
			}
			if m := c.Ask(&protocol.LeaderTransfer{Node: id}); m.Kind() != protocol.KindOK {
				t.Errorf("transfer to %s: %+v", id, m)
			}
			time.Sleep(time.Second) // the answer says that the old one leads no more; the new one has yet to be elected
			if _, self := n.Group.Leader(); !self {
				t.Errorf("%s does not lead", id)
			}
			c.Close()
		}
	})
}

// TestClusterStatusNoQuorum: a client that says so may ask a node without a leader for the members, and nothing else.
func TestClusterStatusNoQuorum(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		time.Sleep(3 * time.Second)
		leader := s.Leader()
		var left *brokertest.Node
		for _, n := range s.Nodes {
			if n != leader {
				left = n
			}
		}
		patient := func() *brokertest.Raw {
			c := left.Connect(t, left.PKI.Client("admin"))
			c.Send(&protocol.Hello{Versions: []uint64{protocol.Version}, Features: []string{"no_quorum", "other"}})
			w, ok := c.Receive().(*protocol.Welcome)
			if !ok || len(w.Features) != 1 || w.Features[0] != "no_quorum" {
				t.Fatalf("%+v", w)
			}
			return c
		}
		before := patient()
		if m := before.Ask(&protocol.TopicList{}); m.Kind() != protocol.KindTopics {
			t.Errorf("with a leader: %+v", m)
		}
		for id, n := range s.Nodes {
			if n != left {
				s.Kill(id)
			}
		}
		time.Sleep(15 * time.Second)
		for _, c := range []*brokertest.Raw{before, patient()} {
			if got, ok := c.Ask(&protocol.ClusterStatus{}).(*protocol.Cluster); !ok || got.Leader != "" || len(got.Members) != 3 {
				t.Errorf("%+v", got)
			}
			for _, m := range []protocol.Message{&protocol.TopicList{}, &protocol.PolicyGet{}, &protocol.Publish{Topic: "orders", Count: 1}, &protocol.MemberRemove{Node: "n1"}} {
				if answer := c.Ask(m); brokertest.Code(answer) != protocol.CodeNoQuorum {
					t.Errorf("%v: %+v", m.Kind(), answer)
				}
			}
			c.Close()
		}
	})
}
