package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
)

// inSeveral runs a test with three whole nodes in a bubble.
func inSeveral(t *testing.T, test func(t *testing.T, s *brokertest.Several)) {
	synctest.Test(t, func(t *testing.T) { test(t, brokertest.StartSeveral(t, "n1", "n2", "n3")) })
}

// TestSeveralAnyNode: each node serves every request; a client reads on its node what it wrote through it; WELCOME names the leader.
func TestSeveralAnyNode(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		time.Sleep(3 * time.Second) // the leader notes where clients reach each node
		leader := s.Leader()
		version := uint64(1)
		for id, n := range s.Nodes {
			c := n.Dial(t, "orders")
			if c.Welcome.Node != id || c.Welcome.Leader != leader.Addr {
				t.Errorf("%s says that the leader is at %q, it is at %q", c.Welcome.Node, c.Welcome.Leader, leader.Addr)
			}
			name := "orders." + id
			created, ok := c.Ask(&protocol.TopicCreate{Name: name}).(*protocol.Topic)
			if !ok || !created.Created {
				t.Fatalf("%s: create: %+v", id, created)
			}
			if got, ok := c.Ask(&protocol.TopicGet{Name: name}).(*protocol.Topic); !ok || got.Info.Incarnation != created.Info.Incarnation {
				t.Errorf("%s: get after create: %+v", id, got)
			}
			if p, ok := c.Publish(name, 0, "first").(*protocol.Published); !ok || p.Offset != 0 || p.Applied == 0 {
				t.Errorf("%s: publish: %+v", id, p)
			}
			if p, ok := c.Publish("auto."+id, 0, "first").(*protocol.Published); !ok || p.Offset != 0 {
				t.Errorf("%s: publish to a topic that is created by itself: %+v", id, p)
			}
			applied, ok := c.Ask(&protocol.PolicyApply{Expect: version, Document: []byte(brokertest.Policy + "# changed by " + id)}).(*protocol.Policy)
			if !ok || applied.Version != version+1 {
				t.Fatalf("%s: policy: %+v", id, applied)
			}
			version++
			if got, ok := c.Ask(&protocol.PolicyGet{}).(*protocol.Policy); !ok || got.Version != version {
				t.Errorf("%s: policy after a change: %+v", id, got)
			}
			if _, ok := c.Ask(&protocol.SnapshotOpen{}).(*protocol.Snapshot); !ok {
				t.Errorf("%s: no snapshot", id)
			}
			c.Close()
		}
	})
}

// TestSeveralLeaderEvent: when another node leads, clients are told where it is.
func TestSeveralLeaderEvent(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		time.Sleep(3 * time.Second)
		old := s.Leader()
		var left *brokertest.Node
		for _, n := range s.Nodes {
			if n != old {
				left = n
			}
		}
		c := left.Dial(t, "orders")
		for id, n := range s.Nodes {
			if n == old {
				s.Kill(id)
				break
			}
		}
		for {
			m := c.Receive()
			e, ok := m.(*protocol.Event)
			if !ok || e.Type != protocol.EventLeader {
				t.Fatalf("%+v", m)
			}
			if e.Text != old.Addr {
				if want := s.Leader().Addr; e.Text != want {
					t.Errorf("the leader is at %q, it is at %q", e.Text, want)
				}
				break
			}
		}
	})
}

// TestSeveralPlannedStop: a leader that hands over goes on serving: a publish through it is done by the next leader. Then it tells its
// clients who leads, and only then to go.
func TestSeveralPlannedStop(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		time.Sleep(3 * time.Second)
		old := s.Leader()
		c := old.Dial(t, "orders")
		if p, ok := c.Publish("orders", 0, "first").(*protocol.Published); !ok || p.Offset != 0 {
			t.Fatalf("publish: %+v", p)
		}
		old.Group.HandOver(t.Context())
		leader := s.Leader()
		if leader == old {
			t.Fatal("it leads, and has handed over")
		}
		if p, ok := c.Publish("orders", 1, "second").(*protocol.Published); !ok || p.Offset != 1 {
			t.Fatalf("publish through a leader that has handed over: %+v", p)
		}
		go old.Broker.Shutdown(t.Context())
		for told := false; ; {
			e, ok := c.Receive().(*protocol.Event)
			switch {
			case !ok:
				t.Fatalf("%+v", e)
			case e.Type == protocol.EventLeader:
				told = e.Text == leader.Addr
			case e.Type == protocol.EventClosing:
				if !told {
					t.Errorf("it closes with %q and has not told that the leader is at %s", e.Text, leader.Addr)
				}
				return
			}
		}
	})
}

// TestSeveralNoQuorum: a node without a leader for 10 s ends its connections, and takes none until there is one.
func TestSeveralNoQuorum(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		var left *brokertest.Node
		for _, n := range s.Nodes {
			if n != s.Leader() {
				left = n
			}
		}
		c := left.Dial(t, "orders")
		for id, n := range s.Nodes {
			if n != left {
				s.Kill(id)
			}
		}
		start := time.Now()
		last := c.WaitEnd()
		if e, ok := last.(*protocol.Event); !ok || e.Type != protocol.EventClosing || e.Code != protocol.CodeNoQuorum {
			t.Errorf("it ended with %+v", last)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("after %v", took)
		}
		refused := left.Connect(t, left.PKI.Client("orders"))
		refused.Send(&protocol.Hello{Versions: []uint64{protocol.Version}})
		if m := refused.Receive(); brokertest.Code(m) != protocol.CodeNoQuorum {
			t.Errorf("answered with %+v", m)
		}
	})
}

// TestSeveralCursorAhead: a node that lags says so to a client that has read more elsewhere, and serves it once it has caught up. The leader
// knows that there is no such place.
func TestSeveralCursorAhead(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		leader, lags := s.Leader(), ""
		for id, n := range s.Nodes {
			if n != leader {
				lags = id
			}
		}
		c := leader.Dial(t, "orders")
		c.Ask(&protocol.TopicCreate{Name: "orders"})
		first := c.Publish("orders", 0, "first").(*protocol.Published)
		if m, ok := s.Nodes[lags].Dial(t, "orders").Ask(&protocol.TopicGet{Name: "orders", After: first.Applied}).(*protocol.Topic); !ok {
			t.Fatalf("%+v", m)
		}
		for id := range s.Nodes {
			s.Peers.Hold(id, lags)
		}
		second := c.Publish("orders", 1, "second").(*protocol.Published)
		three := uint32(3)
		c.Ask(&protocol.TopicAlter{Name: "orders", Mask: protocol.AlterPartitions, Spec: protocol.TopicSpec{Partitions: three}})
		born := c.Ask(&protocol.TopicCreate{Name: "born"}).(*protocol.Topic)
		subscribe := func(n *brokertest.Node, p protocol.Cursor) protocol.Message {
			r := n.Dial(t, "orders")
			defer r.Close()
			return r.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{">"}, Start: protocol.StartEarliest, CreditBytes: 1 << 20, CreditRecords: 100, Cursors: []protocol.Cursor{p}})
		}
		for name, p := range map[string]protocol.Cursor{
			"offset":      {Topic: "orders", Incarnation: first.Incarnation, Offset: second.Offset + 1},
			"partition":   {Topic: "orders", Incarnation: first.Incarnation, Partition: three - 1},
			"incarnation": {Topic: "born", Incarnation: born.Info.Incarnation},
		} {
			if m := subscribe(s.Nodes[lags], p); brokertest.Code(m) != protocol.CodeNotCaughtUp {
				t.Errorf("%s: %s answered %+v", name, lags, m)
			}
			if m, ok := subscribe(leader, p).(*protocol.Subscribed); !ok {
				t.Errorf("%s: the leader answered %+v", name, m)
			}
		}
		if m := subscribe(leader, protocol.Cursor{Topic: "orders", Incarnation: first.Incarnation, Offset: 3}); brokertest.Code(m) != protocol.CodeOutOfRange {
			t.Errorf("the leader knows that there is no offset 3: %+v", m)
		}
		for id := range s.Nodes {
			s.Peers.Release(id, lags)
		}
		p := protocol.Cursor{Topic: "born", Incarnation: born.Info.Incarnation}
		for try := 0; brokertest.Code(subscribe(s.Nodes[lags], p)) == protocol.CodeNotCaughtUp; try++ {
			if try > 600 {
				t.Fatalf("%s has not caught up within a minute", lags)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}
