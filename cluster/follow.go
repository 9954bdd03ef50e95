package cluster

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/state"
)

// leaderEvery is how often a node looks who leads, besides being told by raft.
const leaderEvery = 100 * time.Millisecond

// Submit is Propose for what a client asks of this node, whoever leads: the command goes to the leader. j says what the
// request was judged by. Answers come in the order of Submit.
func (g *Group) Submit(j Judged, cmd []byte, done Done) {
	if g.forwarder == nil {
		g.Propose(cmd, done)
		return
	}
	g.forwarder.Submit(j, cmd, done)
}

// Ask submits a command and waits for its answer. When ctx ends first the outcome is unknown.
func (g *Group) Ask(ctx context.Context, j Judged, cmd []byte) (state.Result, uint64, error) {
	return wait(ctx, func(done Done) { g.Submit(j, cmd, done) })
}

// wait makes a call that answers later one that waits.
func wait(ctx context.Context, call func(Done)) (state.Result, uint64, error) {
	answered := make(chan told, 1)
	call(func(r state.Result, index uint64, err error) { answered <- told{r, index, err} })
	select {
	case a := <-answered:
		return a.result, a.index, a.err
	case <-ctx.Done():
		return state.Result{}, 0, unknown(context.Cause(ctx))
	}
}

// judge is what this node judges by, and how far it has applied.
func (g *Group) judge() (Judged, uint64) {
	v := g.View()
	return Judged{v.Policy().Version, v.RevocationVersion()}, v.Applied()
}

// takes is nil while this node takes the commands of others.
func (g *Group) takes() error {
	if leads, err := g.leads(); err != nil || !leads {
		return ErrNotLeader
	}
	return nil
}

// forwarding makes both sides of it.
func (g *Group) forwarding() {
	o := &g.options
	g.forwarder = NewForwarder(ForwarderOptions{Links: g.links, Propose: g.Propose, Fresh: g.judge, QueueBytes: o.QueueBytes, Logger: o.Logger, Registerer: o.Registerer})
	g.intake = NewIntake(IntakeOptions{Propose: g.Propose, Lead: g.takes, Fresh: g.judge, Full: func() bool { space := g.Space(); return space.Full() }, Logger: o.Logger, Registerer: o.Registerer})
}

// noForwarding serves the metrics of forwarding on a node that is alone: they stay 0.
func (g *Group) noForwarding() {
	newForwardMetrics(g.options.Registerer)
	NewIntake(IntakeOptions{Registerer: g.options.Registerer})
}

// followLoop tells the forwarder who leads. This node does once it has applied what leaders before it committed.
func (g *Group) followLoop(ctx context.Context) {
	news, forget := g.leaderNews()
	defer forget()
	tick := time.NewTicker(leaderEvery)
	defer tick.Stop()
	for {
		l := g.whoLeads()
		g.forwarder.SetLeader(l)
		g.reads.link.setLeader(l)
		select {
		case <-news:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// whoLeads is where commands go.
func (g *Group) whoLeads() Leader {
	address, id := g.raft.LeaderWithID()
	if string(id) == g.options.NodeID {
		if leads, err := g.leads(); !leads || err != nil {
			return Leader{}
		}
		return Leader{Node: string(id), Self: true}
	}
	node, hostPort, err := splitAddress(address)
	if err != nil {
		return Leader{}
	}
	return Leader{Node: node, Address: hostPort}
}
