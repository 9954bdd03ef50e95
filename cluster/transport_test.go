package cluster_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
)

// wires are nodes' links on a network in memory: mutual TLS, PEER_HELLO and raft's transport as they are.
type wires struct {
	t       *testing.T
	pki     *identitytest.PKI
	network memnet.Network
}

// wire is one node's.
type wire struct {
	*cluster.Transport
	links *peer.Links
	group atomic.Pointer[cluster.Group] // answers links for segments
}

func newWires(t *testing.T) *wires { return &wires{t: t, pki: identitytest.New(t)} }

// wire opens a node's end.
func (w *wires) wire(node string) *wire {
	w.t.Helper()
	end := &wire{}
	key := peer.Key{Group: cluster.GroupName, Purpose: protocol.PeerRaft}
	segments := peer.Key{Group: cluster.GroupName, Purpose: protocol.PeerSegments}
	end.links = peer.New(peer.Options{Node: node, Identity: w.pki.Source(node), Dial: w.network.DialContext, Member: func(*protocol.PeerHello) error { return nil },
		Handlers: map[peer.Key]func(*peer.Conn){key: func(c *peer.Conn) { end.Transport.Handle(c) }, segments: func(c *peer.Conn) {
			if g := end.group.Load(); g != nil {
				g.ServeSegments(c)
			}
		}}})
	end.Transport = cluster.NewTransport(end.links, cluster.Address(node, node), hclog.NewNullLogger())
	l, err := w.network.Listen(node)
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- end.links.Serve(context.Background(), l) }()
	w.t.Cleanup(func() {
		if err := errors.Join(end.Close(), end.links.Shutdown(context.Background()), <-served); err != nil {
			w.t.Error(err)
		}
	})
	return end
}

// TestTransportSenders: raft gets a request only if it names the node whose certificate its link has (DESIGN section
// 2.5; raft takes any name, and skips its membership check for none).
func TestTransportSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(t)
		n1, n2 := w.wire("n1"), w.wire("n2")
		got := make(chan raft.RPC, 10)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case r := <-n2.Consumer():
					got <- r
					r.Respond(&raft.RequestVoteResponse{Term: 7}, nil)
				case <-stop:
					return
				}
			}
		}()
		n2.SetHeartbeatHandler(func(r raft.RPC) {
			got <- r
			r.Respond(&raft.AppendEntriesResponse{Term: 8}, nil)
		})
		for _, test := range []struct {
			id string
			ok bool
		}{{"n1", true}, {"n2", false}, {"n3", false}, {"", false}, {"N1", false}, {"n1 ", false}} {
			header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(test.id), Addr: []byte("x")}
			var vote raft.RequestVoteResponse
			err := n1.RequestVote("n2", cluster.Address("n2", "n2"), &raft.RequestVoteRequest{RPCHeader: header, Term: 1}, &vote)
			if (err == nil) != test.ok || test.ok != (vote.Term == 7) || !test.ok && !strings.Contains(err.Error(), "another node") {
				t.Errorf("a vote asked by %q: %v, term %d", test.id, err, vote.Term)
			}
			var beat raft.AppendEntriesResponse
			err = n1.AppendEntries("n2", cluster.Address("n2", "n2"), &raft.AppendEntriesRequest{RPCHeader: header, Term: 1}, &beat)
			if (err == nil) != test.ok || test.ok != (beat.Term == 8) {
				t.Errorf("a heartbeat by %q: %v, term %d", test.id, err, beat.Term)
			}
		}
		if len(got) != 2 {
			t.Errorf("raft got %d requests, want 2", len(got))
		}
	})
}

// TestTransportAddress: the node that answers must be the one that raft's configuration names.
func TestTransportAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(t)
		n1 := w.wire("n1")
		w.wire("n2")
		for _, address := range []raft.ServerAddress{cluster.Address("n3", "n2"), "n2", "@n2", cluster.Address("n2", "nowhere")} {
			err := n1.RequestVote("n2", address, &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("n1")}}, new(raft.RequestVoteResponse))
			if err == nil {
				t.Errorf("%q was reached", address)
			}
		}
	})
}

// TestThreeNodes: real nodes over mutual TLS elect a leader, replicate, lose it, elect another, and are the same at
// the end. The timeouts are raft's own.
func TestThreeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(t)
		ends := map[raft.ServerID]*wire{}
		c := newCrewOver(t, func(id raft.ServerID) raft.Transport {
			ends[id] = w.wire(string(id))
			return ends[id]
		}, three...)
		old := c.leader()
		p := createTopic(t, old.Group, "orders")
		old.fill(t, p, 0, 50)
		c.settle(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])

		ends[old.id].links.Suspend(errors.New("the test cuts it off"))
		c.apart[old.id] = true
		leader := c.leader()
		if leader.id == old.id {
			t.Fatal("the node without links leads")
		}
		leader.fill(t, p, 50, 100)
		if _, _, err := old.Group.Do(contextFor(t, 10*time.Second), publish(p, 1, 50, smallBody(50))); err == nil {
			t.Error("a leader without followers acknowledged a record")
		}

		ends[old.id].links.Resume()
		delete(c.apart, old.id)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
		for _, id := range three {
			c.nodes[id].holds(t, p, 100)
		}
	})
}

// TestInstallOverTLS: a node that is too far behind is filled over links of mutual TLS, raft's and those for segments.
func TestInstallOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(t)
		ends := map[raft.ServerID]*wire{}
		c := newCrewOver(t, func(id raft.ServerID) raft.Transport {
			ends[id] = w.wire(string(id))
			return ends[id]
		}, three...)
		c.segments.setDial(func(ctx context.Context, from raft.ServerID, to raft.Server) (net.Conn, error) {
			return cluster.DialSegments(ends[from].links)(ctx, to)
		})
		for id, end := range ends {
			end.group.Store(c.nodes[id].Group)
		}
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		ends[to.id].links.Suspend(errors.New("the test cuts it off"))
		c.away(t, p, to.id, 0, 2)
		ends[to.id].links.Resume()
		c.heal()
		c.settle(to)
		if h, _ := to.Log.Head(); !h.Installed {
			t.Errorf("head %+v", h)
		}
		c.leader().big(t, p, 64, 70)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

func contextFor(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
