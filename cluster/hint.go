package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose process ends closes its links at once. A follower takes that as a hint: it need not wait for the whole
// election timeout (docs/decisions/0078).
//
// The hint elects nobody by itself. It only shortens raft's timeouts on this node for a while: raft still wants a silence of
// timeouts.hinted, two heartbeats or more, before it asks to be elected, and pre-vote refuses it while a majority hears the leader.

// timeouts are raft's, all from one setting.
type timeouts struct {
	election time.Duration // a follower that hears nothing for so long asks to be elected
	hinted   time.Duration // the same when the leader's links have ended; a leader that hears no majority for so long steps down
	stagger  time.Duration // from one follower to the next
}

func timeoutsOf(election time.Duration) timeouts {
	return timeouts{election, election / 2, election / 20}
}

// hintPause is after how many election timeouts the links of a leader may be a hint again in the same term: one that comes
// and goes disturbs nobody.
const hintPause = 10

// hintLoop waits for the ends of links until ctx ends.
func (g *Group) hintLoop(ctx context.Context) {
	news, forget := g.leaderNews()
	defer forget()
	var term uint64
	var until time.Time
	for {
		select {
		case <-g.transport.Ended():
		case <-ctx.Done():
			return
		}
		leader, self := g.Leader()
		now := g.raft.CurrentTerm()
		if self || !g.vanished(leader) || now == term && time.Now().Before(until) {
			continue
		}
		term, until = now, time.Now().Add(hintPause*g.times.election)
		if !g.awaitSilence(ctx, leader, g.times.hinted/2) {
			continue
		}
		turn := time.Duration(g.turn(leader, time.Until(g.raft.LastContact().Add(g.times.hinted))))
		if g.awaitSilence(ctx, leader, g.times.hinted+turn*g.times.stagger) {
			g.hurry(ctx, leader, news)
		}
	}
}

// vanished says whether a leader still counts as one, and has no link to this node any more.
func (g *Group) vanished(leader string) bool {
	now, _ := g.Leader()
	return leader != "" && now == leader && g.transport.Open(leader) == 0
}

// awaitSilence waits until this node has heard nothing of the leader for so long. It is false if the leader is back.
func (g *Group) awaitSilence(ctx context.Context, leader string, d time.Duration) bool {
	for {
		left := time.Until(g.raft.LastContact().Add(d))
		if left <= 0 || !g.vanished(leader) {
			return g.vanished(leader)
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return false
		}
	}
}

// turn is this node's place among those that may follow a leader: who has less of the log comes first, then the lower id.
// Pre-vote wants it so: a node refuses as long as it counts on the leader, that is until its own turn has come, and it refuses
// who has less than itself. So the last one is elected at its first attempt. Nobody is asked for longer than wait.
func (g *Group) turn(leader string, wait time.Duration) (turn int) {
	own := g.raft.LastIndex()
	type position struct {
		node string
		last uint64
	}
	answers := make(chan position, len(g.servers()))
	asked := 0
	for _, s := range g.servers() {
		if id := string(s.ID); s.Suffrage == raft.Voter && id != leader && id != g.options.NodeID {
			asked++
			g.work.Go(func() { answers <- position{id, g.lastIndexOf(s, own)} })
		}
	}
	late := time.After(wait)
	for range asked {
		select {
		case p := <-answers:
			if p.last < own || p.last == own && strings.Compare(p.node, g.options.NodeID) < 0 {
				turn++
			}
		case <-late:
			return turn
		}
	}
	return turn
}

// lastIndexOf asks another node for the last index of its log; otherwise is the answer of one that gives none. The question is
// an AppendEntries of term 0, which raft answers and does nothing about.
func (g *Group) lastIndexOf(s raft.Server, otherwise uint64) uint64 {
	own := Address(g.options.NodeID, g.options.Peers.address(g.options.NodeID))
	question := raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.options.NodeID), Addr: g.transport.EncodePeer(raft.ServerID(g.options.NodeID), own)}}
	var answer raft.AppendEntriesResponse
	if err := g.transport.AppendEntries(s.ID, s.Address, &question, &answer); err != nil {
		return otherwise
	}
	return answer.LastLog
}

// hurry shortens raft's timeouts until another node leads, or for two election timeouts.
func (g *Group) hurry(ctx context.Context, leader string, news <-chan raft.Observation) {
	g.options.Logger.Info("the leader has closed its links: asking to be elected", "leader", leader, "silent", time.Since(g.raft.LastContact()).Round(time.Millisecond))
	g.metrics.hints.Inc()
	g.setTimeouts(g.times.hinted)
	defer g.setTimeouts(g.times.election)
	end := time.NewTimer(2 * g.times.election)
	defer end.Stop()
	for {
		if now, _ := g.Leader(); now != "" && now != leader {
			return
		}
		select {
		case <-news:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// setTimeouts changes raft's while it runs. It looks at a shorter one at once.
func (g *Group) setTimeouts(d time.Duration) {
	c := g.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = d, d
	if err := g.raft.ReloadConfig(c); err != nil {
		g.options.Logger.Error("raft's timeouts were not changed", "error", err)
	}
}

// leaderNews gets something after another node leads, or none. forget ends it.
func (g *Group) leaderNews() (news <-chan raft.Observation, forget func()) {
	c := make(chan raft.Observation, 1)
	observer := raft.NewObserver(c, false, func(o *raft.Observation) bool {
		_, moved := o.Data.(raft.LeaderObservation)
		return moved
	})
	g.raft.RegisterObserver(observer)
	return c, func() { g.raft.DeregisterObserver(observer) }
}
