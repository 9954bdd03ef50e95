package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/state"
)

// Node is a node and where other nodes reach it.
type Node struct {
	ID      string
	Address string // HOST:PORT of its peer port
}

// Peers makes a node one of several.
type Peers struct {
	Identity *identity.Source
	Listener net.Listener // of the peer port; the group's, which closes it
	Software string       // version of the program, told to others
	Client   string       // HOST:PORT by which clients reach this node, told to others

	// Join names nodes, this one among them. A node without a log lets them in, and whom they name as members, and nobody else. The
	// Expect nodes that begin a cluster must all name the same ones, and no others; 0 = this node begins none, it waits to be
	// added. Once the node has a log the list only says whom it may ask who belongs to the cluster.
	Join   []Node
	Expect int

	// Election is for how long a follower hears nothing of the leader before it asks to be elected; half of it if the leader has
	// closed its links. The same on every node, from ElectionMin to ElectionMax (ElectionDefault).
	Election time.Duration

	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil = TCP

	commands uint64 // the highest kind of command that this node says it can apply (state.LatestCommand); tests change it
}

// NodesMax is how many nodes may begin a cluster.
const NodesMax = 9

// Bounds of Peers.Election. A leader sends a heartbeat every tenth to fifth of it, and one that has heard nobody for half of it
// steps down: that half must hold a heartbeat, a round trip, and whatever delays them (docs/decisions/0078).
const (
	ElectionDefault = time.Second
	ElectionMin     = 200 * time.Millisecond
	ElectionMax     = 5 * time.Second
)

func (p *Peers) check(self string) error {
	ids := map[string]bool{}
	for _, n := range p.Join {
		switch {
		case n.ID == "" || n.Address == "":
			return fmt.Errorf("the join list has an entry without id or address: %q at %q", n.ID, n.Address)
		case ids[n.ID]:
			return fmt.Errorf("the join list has node %s twice", n.ID)
		}
		ids[n.ID] = true
	}
	switch {
	case p.Identity == nil:
		return errors.New("no identity for links to other nodes")
	case !ids[self]:
		return fmt.Errorf("the join list does not name this node, %s", self)
	case p.Expect != 0 && p.Expect != len(p.Join):
		return fmt.Errorf("%d nodes are to begin the cluster, the join list names %d", p.Expect, len(p.Join))
	case p.Expect > NodesMax:
		return fmt.Errorf("%d nodes are to begin the cluster, at most %d may", p.Expect, NodesMax)
	}
	if p.Election == 0 {
		p.Election = ElectionDefault
	}
	if p.Election < ElectionMin || p.Election > ElectionMax {
		return fmt.Errorf("an election timeout of %v; from %v to %v", p.Election, ElectionMin, ElectionMax)
	}
	if p.commands == 0 {
		p.commands = state.LatestCommand
	}
	return nil
}

// names says whether a node is in the join list.
func (p *Peers) names(node string) bool {
	return slices.ContainsFunc(p.Join, func(n Node) bool { return n.ID == node })
}

// address is this node's own.
func (p *Peers) address(self string) string {
	i := slices.IndexFunc(p.Join, func(n Node) bool { return n.ID == self })
	return p.Join[i].Address
}

// servers is the first configuration of a cluster.
func (p *Peers) servers() (list []raft.Server) {
	for _, n := range p.sorted() {
		list = append(list, raft.Server{ID: raft.ServerID(n.ID), Address: Address(n.ID, n.Address)})
	}
	return list
}

func (p *Peers) sorted() []Node {
	return slices.SortedFunc(slices.Values(p.Join), func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
}

// digest is one word for the ids of the join list.
func (p *Peers) digest() string {
	h := sha256.New()
	for _, n := range p.sorted() {
		fmt.Fprintln(h, n.ID)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// alone says that this is a group of one, which talks to nobody.
func (g *Group) alone() bool { return g.options.Peers == nil && g.options.peers == nil }

// connect makes the links to other nodes and raft's transport over them, and sets raft's times.
func (g *Group) connect(c *raft.Config) *peers {
	p := g.options.Peers
	public := g.seal.Public()
	g.times = timeoutsOf(p.Election)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = g.times.election, g.times.election, g.times.hinted
	g.links = peer.New(peer.Options{Node: g.options.NodeID, Software: p.Software, Identity: p.Identity, Disk: g.dir.Disk(), Client: p.Client, Commands: p.commands, SealKey: public[:],
		Cluster: func() string { return g.View().ClusterID() }, Fresh: g.fresh, Member: g.mayLink, Handlers: g.handlers(), Dial: p.Dial, Logger: g.options.Logger, Registerer: g.options.Registerer})
	g.forwarding()
	g.transport = NewTransport(g.links, Address(g.options.NodeID, p.address(g.options.NodeID)), c.Logger)
	g.contacts = newContacts(g.metrics)
	g.transport.contacts = g.contacts
	return &peers{transport: g.transport, segments: DialSegments(g.links)}
}

// handlers serve the links that other nodes open.
func (g *Group) handlers() map[peer.Key]func(*peer.Conn) {
	return map[peer.Key]func(*peer.Conn){
		raftLink:     func(c *peer.Conn) { g.transport.Handle(c) },
		ForwardLink:  func(c *peer.Conn) { g.intake.Handle(c) },
		segmentsLink: func(c *peer.Conn) { g.ServeSegments(c) },
		controlLink:  g.serveControl,
		readsLink:    g.serveReads,
	}
}

// servers is the newest configuration of raft, committed or not; empty while there is no log.
func (g *Group) servers() []raft.Server {
	<-g.started
	if g.raft == nil {
		return nil
	}
	return g.raft.GetConfiguration().Configuration().Servers
}

// checkServers holds what the log says of the members against how the node is set up.
func (g *Group) checkServers() error {
	servers := g.servers()
	pending, err := recovering(g.store)
	if pending && !g.options.recovers {
		err = fmt.Errorf("the data folder is of node %s: %w", g.options.NodeID, errUnfinished)
	}
	if err != nil {
		return err
	}
	own := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == g.options.NodeID })
	if g.options.peers != nil || len(servers) == 0 {
		return nil
	}
	if g.alone() && (own < 0 || len(servers) > 1) {
		var ids []string
		for _, s := range servers {
			ids = append(ids, string(s.ID))
		}
		return fmt.Errorf("the data folder is of a cluster with the nodes %s; this node is set up to be alone", strings.Join(ids, ", "))
	}
	if !g.alone() && own >= 0 {
		if _, _, err := splitAddress(servers[own].Address); err != nil {
			return fmt.Errorf("the data folder is of node %s alone, which cannot become one of several; begin with new folders, or start it alone", g.options.NodeID)
		}
	}
	return nil
}

// runPeers keeps the links and what depends on them going until ctx ends.
func (g *Group) runPeers(ctx context.Context) {
	if g.links == nil {
		return
	}
	run := func(part string, f func() error) {
		g.work.Go(func() {
			if err := f(); err != nil {
				g.options.Logger.Error("part ended", "part", part, "error", err)
			}
		})
	}
	run("peer links", func() error { return g.links.Run(ctx) })
	if l := g.options.Peers.Listener; l != nil {
		context.AfterFunc(ctx, func() { l.Close() })
		run("peers", func() error { return g.links.Serve(ctx, l) })
	}
	g.work.Go(func() { g.gatherLoop(ctx) })
	g.work.Go(func() { g.tellLoop(ctx) })
	g.work.Go(func() { g.ticketLoop(ctx) })
	g.work.Go(func() { g.recheckLoop(ctx) })
	g.work.Go(func() { g.reconcileLoop(ctx) })
	g.work.Go(func() { g.introduceLoop(ctx) })
	g.work.Go(func() { g.removedLoop(ctx) })
	g.work.Go(func() { g.followLoop(ctx) })
	g.work.Go(func() { g.hintLoop(ctx) })
	run("forwarding", func() error { return g.forwarder.Run(ctx) })
}
