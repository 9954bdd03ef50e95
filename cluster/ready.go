package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
)

// readyEvery is how often a node that starts looks how far it is.
const readyEvery = 50 * time.Millisecond

// becomeReady waits until there is a leader, what was committed before is applied, and the cluster has a name, which the leader
// gives it. It ends without an error when the group stops first.
func (g *Group) becomeReady(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	r := replay{g: g}
	for _, step := range []func(context.Context) (bool, error){r.applied, r.covered, g.named} {
		for {
			done, err := step(ctx)
			if err != nil {
				return err
			}
			if done {
				break
			}
			select {
			case <-g.raft.LeaderCh():
			case <-tick.C:
			case <-ctx.Done():
				return nil
			case <-g.stopped:
				return nil
			}
		}
	}
	g.takeTickets() // before a client comes back with a ticket
	close(g.ready)
	return nil
}

// replay is how far the state machine is behind the log at a start.
type replay struct {
	g    *Group
	goal uint64 // of a follower: the last command that was committed when it first heard of it
}

// applied says whether all that was committed before is applied. Of a node alone every error is final: it has nobody to wait for.
func (r *replay) applied(context.Context) (bool, error) {
	g := r.g
	leads, err := g.leads()
	switch {
	case err != nil && g.alone():
		return false, fmt.Errorf("replay the log: %w", err)
	case err != nil:
		return false, nil
	case leads:
		return true, nil
	}
	leader, self := g.Leader()
	if r.goal == 0 && leader != "" && !self {
		r.goal = g.lastCommand(g.raft.CommitIndex())
	}
	return r.goal > 0 && g.fsm.applied() >= r.goal, nil
}

// lastCommand is the last entry up to an index that the state machine gets to see; 0 = none.
func (g *Group) lastCommand(index uint64) uint64 {
	for ; index > 0; index-- {
		var l raft.Log
		if err := g.store.GetLog(index, &l); err != nil { // what is not in the log is in a sealed segment
			h, _ := g.options.Log.Head()
			return min(index, h.Point.Index)
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			return index
		}
	}
	return 0
}

// covered makes sure that the message store has every record that the state speaks of.
func (r *replay) covered(context.Context) (bool, error) {
	g := r.g
	g.fsm.applying.Lock() // nothing may come between the state and the store
	defer g.fsm.applying.Unlock()
	view := g.View()
	for p := range view.Partitions() {
		if err := g.options.Log.Covered(p.ID, p.Low, p.Next); err != nil {
			if g.mended() {
				g.options.Logger.Error("records are missing: readers of them get an error until another node gives them", "topic", p.Topic, "error", err)
				g.options.Log.FindHoles()
				break
			}
			return false, fmt.Errorf("topic %s, %w; restore the data folder from a backup", p.Topic, err)
		}
	}
	h, _ := g.options.Log.Head()
	g.options.Logger.Info("log replayed", "entries", g.fsm.applied()-h.Point.Index, "bytes", g.fsm.replayed.Load(), "behind", h.Point.Index, "took", time.Since(g.opened).Round(time.Millisecond), "topics", view.TopicCount())
	return true, nil
}

// named says whether the cluster has an id. The leader gives it one.
func (g *Group) named(ctx context.Context) (bool, error) {
	if g.View().ClusterID() != "" {
		return true, nil
	}
	if leads, err := g.leads(); !g.alone() && (err != nil || !leads) {
		return false, nil
	}
	_, _, err := g.Do(ctx, state.AppendInit(nil, &state.Init{ClusterID: rand.Text()}))
	if err != nil && g.alone() {
		return false, fmt.Errorf("name the cluster: %w", err)
	}
	return err == nil, nil
}

// leads says whether this node leads and has applied all that leaders before it committed; in each term it waits for that
// once. Whoever decides by the state what to propose asks here first.
func (g *Group) leads() (bool, error) {
	if g.raft.State() != raft.Leader {
		return false, nil
	}
	term := g.raft.CurrentTerm()
	if g.caughtUp.Load() == term {
		return true, nil
	}
	err := g.await(g.raft.Barrier(0), nil)
	switch {
	case err == nil:
		g.caughtUp.Store(term)
		return true, nil
	case errors.Is(err, raft.ErrNotLeader) && !g.alone():
		return false, nil
	}
	return false, err
}

// Leads says whether this node leads and has applied all that leaders before it committed. Without a majority it waits until it is
// known that it does not.
func (g *Group) Leads() bool {
	leads, err := g.leads()
	return leads && err == nil
}
