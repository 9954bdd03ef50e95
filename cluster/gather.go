package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How a cluster begins: each node of the join list starts with an empty log and tells so on its links (fresh). Once the one
// with the lowest id has heard from all others that they are empty too, and wait for the same nodes, it writes the first entry,
// which makes all of them voters; raft does the rest. Nobody else ever writes a first entry. A crash before that
// entry is a start from the beginning, and one after it a start with a log: then nothing of this is looked at.
//
// While one of the others has a log nothing begins: a majority may have acknowledged records with it, and this node may be
// one that lost its disk.

// A node without a log asks the others, at first soon again.
const (
	gatherFirst = 250 * time.Millisecond
	gatherLast  = 5 * time.Second
)

// fresh is what a node without a log tells others: which nodes it waits for.
func (g *Group) fresh() string {
	if g.options.Peers.Expect == 0 || len(g.servers()) > 0 {
		return ""
	}
	return g.options.Peers.digest()
}

// gatherLoop asks until this node has a log, its own or that of a leader.
func (g *Group) gatherLoop(ctx context.Context) {
	if g.options.Peers.Expect == 0 {
		return
	}
	said, wait := "", gatherFirst
	for len(g.servers()) == 0 {
		if err := g.gather(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			g.options.Logger.Info("the cluster has not begun here", "waiting_for", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, gatherLast)
	}
}

// gather begins the cluster if that is up to this node now; an error says what is missing.
func (g *Group) gather(ctx context.Context) error {
	nodes := g.options.Peers.sorted()
	errs := make([]error, len(nodes))
	var asked sync.WaitGroup
	for i, n := range nodes {
		if n.ID != g.options.NodeID {
			asked.Go(func() { errs[i] = g.askFresh(ctx, n) })
		}
	}
	asked.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if first := nodes[0].ID; first != g.options.NodeID {
		return fmt.Errorf("all nodes are here; node %s begins", first)
	}
	err := g.raft.BootstrapCluster(raft.Configuration{Servers: g.options.Peers.servers()}).Error()
	if err != nil {
		return fmt.Errorf("begin the cluster: %w", err)
	}
	g.options.Logger.Info("the cluster begins", "nodes", len(nodes))
	return nil
}

// askFresh returns nil if a node is empty and waits for the same nodes as this one.
func (g *Group) askFresh(ctx context.Context, n Node) error {
	c, err := g.links.Dial(ctx, n.ID, n.Address, raftLink)
	if err != nil {
		return err
	}
	defer c.Close()
	switch c.Hello().Fresh {
	case g.options.Peers.digest():
		return nil
	case "":
		return fmt.Errorf("node %s has a log: its leader must contact this node", n.ID)
	}
	return fmt.Errorf("node %s waits for other nodes: the join lists differ", n.ID)
}
