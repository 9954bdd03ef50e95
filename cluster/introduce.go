package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// A node that hears of no leader asks members who belongs to the cluster by now: a new one knows only what its join list names,
// and one that was away for long may know nobody who is still there. What it is told counts until it has a newer
// configuration in its log, and only for who may have a link; tombstones and disks that it knows come first.

// introduceEvery is how often it asks.
const introduceEvery = 2 * time.Second

// introduced are the members as another one named them.
type introduced struct {
	mu    sync.Mutex
	nodes map[string]string // Guarded by mu. Addresses by id.
}

func (i *introduced) names(node string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.nodes[node]
	return ok
}

func (i *introduced) set(list []protocol.NodeAddress) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.nodes = map[string]string{}
	for _, n := range list {
		i.nodes[n.Node] = n.Address
	}
}

func (i *introduced) list() (list []Node) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, address := range i.nodes {
		list = append(list, Node{id, address})
	}
	return list
}

// introduceLoop asks as long as there is no leader.
func (g *Group) introduceLoop(ctx context.Context) {
	tick := time.NewTicker(introduceEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if leader, _ := g.Leader(); leader != "" || g.fresh() != "" {
			continue
		}
		err := g.introduce(ctx)
		if text := fmt.Sprint(err); err != nil && ctx.Err() == nil && text != said {
			said = text
			g.options.Logger.Warn("this node hears of no leader, and no member tells it who belongs to the cluster; a new node is let in by: waxwing cluster join "+
				string(Address(g.options.NodeID, g.options.Peers.address(g.options.NodeID))), "error", err)
		}
	}
}

// introduce asks one node after the other until one knows the members.
func (g *Group) introduce(ctx context.Context) error {
	var errs []error
	for _, n := range g.acquaintances() {
		s, err := g.askState(ctx, n.ID, n.Address)
		if err == nil && s.Figures.Leader == "" {
			err = fmt.Errorf("node %s hears of no leader either", n.ID)
		}
		if err == nil {
			g.met.introduced.set(s.Members)
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// acquaintances are the nodes that this one has heard of, itself left out.
func (g *Group) acquaintances() (list []Node) {
	seen := map[string]bool{g.options.NodeID: true}
	add := func(nodes []Node) {
		for _, n := range nodes {
			if !seen[n.ID+"@"+n.Address] && n.ID != g.options.NodeID {
				seen[n.ID+"@"+n.Address] = true
				list = append(list, n)
			}
		}
	}
	for _, s := range g.servers() {
		if node, address, err := splitAddress(s.Address); err == nil {
			add([]Node{{node, address}})
		}
	}
	add(g.met.introduced.list())
	add(g.options.Peers.Join)
	return list
}
