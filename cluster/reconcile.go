package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
)

// reconcileEvery is how often the leader compares raft's configuration with the state.
const reconcileEvery = time.Second

// A node without a vote gets one once it was, for ripeTime without a break, at most ripeLag entries behind the leader.
const (
	ripeLag  = 1_000
	ripeTime = 3 * time.Second
)

// Bounds of one change of raft's configuration.
const (
	configureTimeout = 5 * time.Second
	farewellTimeout  = 3 * time.Second
)

// reconcileLoop makes raft's configuration follow the state, as long as this node leads.
func (g *Group) reconcileLoop(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-g.wanted:
		case <-ctx.Done():
			return
		}
		if g.oneChange(ctx) != nil {
			return
		}
		err := g.reconcile(ctx)
		g.changed()
		if text := fmt.Sprint(err); err != nil && text != said {
			said = text
			g.options.Logger.Warn("raft's configuration does not follow the members yet; it is tried again", "error", err)
		}
	}
}

// news makes reconcileLoop look now.
func (g *Group) news() {
	select {
	case g.wanted <- struct{}{}:
	default:
	}
}

// reconcile makes at most one change to raft's configuration. Nobody else changes members meanwhile.
func (g *Group) reconcile(ctx context.Context) error {
	leads, err := g.leads()
	if !leads || err != nil {
		g.ripe = ripening{}
		return err
	}
	f := g.raft.GetConfiguration()
	servers, at := f.Configuration().Servers, f.Index()
	step := nextStep(servers, g.View().Members())
	switch {
	case step.do == nothing:
		return g.promote(ctx, servers, at)
	case step.do == takeOut && step.node == g.options.NodeID:
		return g.giveUp(ctx, nil)
	case step.do == takeOut:
		g.farewell(ctx, servers, step.node)
		return g.configured(ctx, "removed", step.node, g.raft.RemoveServer(raft.ServerID(step.node), at, configureTimeout))
	}
	return g.configured(ctx, "added, or moved", step.node, g.raft.AddNonvoter(raft.ServerID(step.node), Address(step.node, step.address), at, configureTimeout))
}

// configured waits for a change of raft's configuration.
func (g *Group) configured(ctx context.Context, what, node string, f raft.IndexFuture) error {
	if err := within(ctx, configureTimeout, f); err != nil {
		return fmt.Errorf("node %s, to be %s: %w", node, what, err)
	}
	g.options.Logger.Info("member "+what, "member", node, "index", f.Index())
	return nil
}

// Kinds of steps.
const (
	nothing = iota
	takeOut // of raft's configuration
	letIn   // without a vote; of a member it is a change of its address
)

// step is one change that raft's configuration lacks.
type step struct {
	do      int
	node    string
	address string
}

// nextStep compares raft's configuration with what the state says of members. Nodes of which the state says nothing yet are
// left alone.
func nextStep(servers []raft.Server, members []state.Member) step {
	for _, m := range members {
		at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == m.Node })
		switch {
		case m.Removed && at >= 0:
			return step{takeOut, m.Node, ""}
		case m.Removed || m.Peer == "":
			continue
		case at < 0, servers[at].Address != Address(m.Node, m.Peer):
			return step{letIn, m.Node, m.Peer}
		}
	}
	return step{}
}

// farewell waits until a node knows that it is removed, if it answers: so it can say so, and end.
func (g *Group) farewell(ctx context.Context, servers []raft.Server, gone string) {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	applied := g.raft.AppliedIndex()
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == gone })
	node, address, err := splitAddress(servers[i].Address)
	if err != nil {
		return
	}
	for {
		s, err := g.askState(ctx, node, address)
		if err != nil || s.Figures.Applied >= applied {
			return
		}
		select {
		case <-time.After(leaderEvery):
		case <-ctx.Done():
			return
		}
	}
}

// ripening is since when nodes without a vote have been close behind this leader.
type ripening struct {
	term  uint64
	since map[string]time.Time
}

// promote gives a vote to one node that has caught up. Nothing is wanting in the configuration but that.
func (g *Group) promote(ctx context.Context, servers []raft.Server, at uint64) error {
	if term := g.raft.CurrentTerm(); g.ripe.term != term {
		g.ripe = ripening{term, map[string]time.Time{}}
	}
	var errs []error
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			delete(g.ripe.since, string(s.ID))
			continue
		}
		close, err := g.isClose(ctx, s)
		errs = append(errs, err)
		since, before := g.ripe.since[string(s.ID)]
		switch {
		case !close:
			delete(g.ripe.since, string(s.ID))
		case !before:
			g.ripe.since[string(s.ID)] = time.Now()
		case time.Since(since) >= ripeTime:
			return g.configured(ctx, "given a vote", string(s.ID), g.raft.AddVoter(s.ID, s.Address, at, configureTimeout))
		}
	}
	return errors.Join(errs...)
}

// isClose says whether a node is close behind this leader. Its disk must be known, else nothing could tell it from one that
// has lost it.
func (g *Group) isClose(ctx context.Context, s raft.Server) (bool, error) {
	if m, ok := g.memberOf(string(s.ID)); !ok || m.Disk == "" {
		return false, nil
	}
	node, address, err := splitAddress(s.Address)
	if err != nil {
		return false, err
	}
	last := g.raft.LastIndex()
	told, err := g.askState(ctx, node, address)
	if err != nil {
		return false, fmt.Errorf("node %s does not vote yet: %w", node, err)
	}
	return told.Figures.Leader == g.options.NodeID && told.Figures.Applied+ripeLag >= last, nil
}
