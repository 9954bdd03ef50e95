package brokertest

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/storage"
)

// Several is whole nodes that form a cluster over networks in memory. Use it in a synctest bubble. Its methods are for one goroutine.
type Several struct {
	IDs     []string
	Nodes   map[string]*Node // those that run
	PKI     *identitytest.PKI
	Peers   memnet.Network // between nodes; their ids are hosts
	Clients memnet.Network // from clients to Address of a node

	t    testing.TB
	root string
	mu   sync.Mutex
}

// Address is where clients reach a node.
func Address(id string) string { return id + ".client:7420" }

// StartSeveral starts nodes, waits until they are ready, and sets the policy through the leader.
func StartSeveral(t testing.TB, ids ...string) *Several {
	t.Helper()
	s := &Several{IDs: ids, Nodes: map[string]*Node{}, PKI: identitytest.New(t), t: t, root: t.TempDir()}
	var starting sync.WaitGroup
	for _, id := range ids {
		starting.Go(func() {
			n, err := s.open(id)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.Nodes[id] = n
		})
	}
	starting.Wait()
	t.Cleanup(s.stop)
	if t.Failed() {
		t.FailNow()
	}
	index := s.Leader().setPolicy(t, Policy)
	for id, n := range s.Nodes {
		if err := n.Group.WaitApplied(t.Context(), index); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	for id, n := range s.Nodes {
		s.serve(id, n)
	}
	return s
}

// open starts a node's group and waits until it is ready.
func (s *Several) open(id string) (*Node, error) {
	l, err := s.Peers.Listen(id)
	if err != nil {
		return nil, err
	}
	p := &cluster.Peers{Identity: s.PKI.Source(id), Listener: l, Client: Address(id), Expect: len(s.IDs), Dial: s.Peers.From(id)}
	for _, other := range s.IDs {
		p.Join = append(p.Join, cluster.Node{ID: other, Address: other})
	}
	fail := func(err error) { s.t.Errorf("%s: fail-stop: %v", id, err) }
	n, err := clustertest.OpenOptions(s.t.Context(), storage.Options{GuardBytes: storage.GuardMin(storage.SegmentBytesDefault), Fail: fail}, cluster.Options{Dir: filepath.Join(s.root, id), NodeID: id, Fail: fail, Peers: p})
	if err != nil {
		return nil, err
	}
	return &Node{Node: n, dial: s.Clients.DialContext, PKI: s.PKI, Identity: p.Identity, Registry: prometheus.NewRegistry(), Addr: Address(id)}, nil
}

// Start starts a node that was ended, on its folder, and waits until it is ready: for that it must reach a leader.
func (s *Several) Start(id string) {
	s.t.Helper()
	n, err := s.open(id)
	if err != nil {
		s.t.Fatalf("start %s: %v", id, err)
	}
	s.Nodes[id] = n
	s.serve(id, n)
}

// serve starts a node's broker.
func (s *Several) serve(id string, n *Node) {
	s.t.Helper()
	var err error
	n.Broker, err = broker.New(broker.Options{NodeID: id, Version: "test", AdvertiseClient: n.Addr, Group: n.Group, Log: n.Log, Identity: n.Identity, Registerer: n.Registry})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := s.Clients.Listen(n.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	n.run(s.t, l)
}

// Leader is the node that leads.
func (s *Several) Leader() *Node {
	s.t.Helper()
	for _, n := range s.Nodes {
		if _, self := n.Group.Leader(); self {
			return n
		}
	}
	s.t.Fatal("no node leads")
	return nil
}

// Kill ends a node; a leader hands over first.
func (s *Several) Kill(id string) {
	s.t.Helper()
	n := s.Nodes[id]
	delete(s.Nodes, id)
	n.Close()
	if err := n.Stop(); err != nil {
		s.t.Error(err)
	}
}

// stop stops all groups at once: one after the other they would wait for a majority.
func (s *Several) stop() {
	var stopping sync.WaitGroup
	errs := make([]error, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		stopping.Go(func() {
			err := n.Stop()
			s.mu.Lock()
			defer s.mu.Unlock()
			errs = append(errs, err)
		})
	}
	stopping.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Error(err)
	}
}
