// Package brokertest runs whole nodes for tests: real TLS, real raft, real Badger, in this process.
package brokertest

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/state"
)

// Policy lets every client of the test trust domain do everything, and creates topics.
const Policy = `
roles:
  everything:
    allow:
      - {verbs: [publish, subscribe, consume, manage], topics: [">"], groups: [">"]}
      - {verbs: [observe, admin]}
bindings:
  - identity: "spiffe://test.example/client/{name}"
    roles: [everything]
auto_create:
  - {topics: ">"}
`

// Options change a node.
type Options struct {
	Dir    string // default: a folder of the test
	Policy string // default: Policy
	PKI    *identitytest.PKI
	Limits broker.Limits
	Logger *slog.Logger
	Listen func() (net.Listener, error)                                         // default: loopback
	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // for Raw; default: the real network
}

// Node is a running node.
type Node struct {
	*clustertest.Node
	PKI      *identitytest.PKI
	Broker   *broker.Server
	Identity *identity.Source
	Registry *prometheus.Registry
	Addr     string // of the client listener

	dial func(ctx context.Context, network, address string) (net.Conn, error)
	stop func()
}

// Start starts a node and stops it when the test ends.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.PKI == nil {
		o.PKI = identitytest.New(t)
	}
	if o.Policy == "" {
		o.Policy = Policy
	}
	if o.Listen == nil {
		o.Listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	n := &Node{Node: clustertest.Start(t, o.Dir), dial: o.Dial, PKI: o.PKI, Identity: o.PKI.Source("n1"), Registry: prometheus.NewRegistry()}
	n.setPolicy(t, o.Policy)
	var err error
	n.Broker, err = broker.New(broker.Options{NodeID: "n1", Version: "test", Group: n.Group, Log: n.Log, Identity: n.Identity, Limits: o.Limits, Logger: o.Logger, Registerer: n.Registry})
	if err != nil {
		t.Fatal(err)
	}
	l, err := o.Listen()
	if err != nil {
		t.Fatal(err)
	}
	n.Addr = l.Addr().String()
	n.run(t, l)
	return n
}

// setPolicy puts the first policy into the log, and returns the index of that.
func (n *Node) setPolicy(t testing.TB, doc string) uint64 {
	t.Helper()
	r, index, err := n.Group.Do(t.Context(), state.AppendSetPolicy(nil, &state.SetPolicy{Reset: true, Document: []byte(doc), By: "test"}))
	if err != nil || !r.Status.Done() {
		t.Fatalf("set policy: %+v, %v", r, err)
	}
	return index
}

// run serves until the test ends.
func (n *Node) run(t testing.TB, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Broker.Run(ctx) })
	wg.Go(func() { _ = n.Broker.Serve(ctx, l) })
	n.stop = sync.OnceFunc(func() {
		if err := n.Broker.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	})
	t.Cleanup(n.stop)
}

// Close stops serving before the test ends.
func (n *Node) Close() { n.stop() }

// PolicyFor is a document that gives one client some verbs on some topics, and "admin" everything.
func PolicyFor(client string, verbs, topics string) string {
	return strings.NewReplacer("CLIENT", client, "VERBS", verbs, "TOPICS", topics).Replace(`
bindings:
  - identity: "spiffe://test.example/client/admin"
    allow:
      - {verbs: [publish, subscribe, consume, manage], topics: [">"], groups: [">"]}
      - {verbs: [observe, admin]}
  - identity: "spiffe://test.example/client/CLIENT"
    allow:
      - {verbs: [VERBS], topics: [TOPICS]}
`)
}

// DialContext reaches the client ports of the nodes; it has the shape of client.Options.Dialer.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dial(ctx, network, address)
}
