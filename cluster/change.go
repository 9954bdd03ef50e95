package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// What an admin changes about members is a command in the log first: the state says who shall belong to the cluster. The
// leader then makes raft's configuration follow (reconcile.go); a leader that dies in between is followed by one that goes on.

// ChangeError says why members were not changed.
type ChangeError struct {
	Code protocol.Code
	Text string
}

func (e *ChangeError) Error() string { return e.Text }

func refusal(code protocol.Code, format string, args ...any) error {
	return &ChangeError{code, fmt.Sprintf(format, args...)}
}

// changeTimeout bounds a change on the node that a client asks, which may have to wait for a leader.
const changeTimeout = 15 * time.Second

// Change has the leader change members, or hand over. j says what the request was judged by. It may be repeated. Errors are
// *ChangeError and *OutcomeError.
func (g *Group) Change(ctx context.Context, j Judged, c *protocol.MemberChange) (index uint64, err error) {
	if g.alone() {
		return 0, refusal(protocol.CodeInvalid, "this node is alone, and not one of several: nothing can join it or be removed; begin a cluster with cluster.bootstrap_expect and cluster.join")
	}
	m := *c
	m.PolicyVer, m.RevocationVer = j.Policy, j.Revocations
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for {
		if index, err = g.tryChange(ctx, &m); !errors.Is(err, ErrNotLeader) {
			return index, err
		}
		select {
		case <-time.After(leaderEvery):
		case <-g.stopped:
			return 0, rejected(ErrShutdown)
		case <-ctx.Done():
			return 0, rejected(ErrNoLeader)
		}
	}
}

// tryChange asks whoever leads now.
func (g *Group) tryChange(ctx context.Context, m *protocol.MemberChange) (uint64, error) {
	l := g.whoLeads()
	if l.Self {
		return g.change(ctx, m)
	}
	if l.Node == "" {
		return 0, rejected(ErrNotLeader)
	}
	answer, err := g.ask(ctx, l.Node, l.Address, m)
	switch {
	case errors.Is(err, errAsked) && m.Action == protocol.ActionTransfer:
		return 0, unknown(err)
	case err != nil: // the others may be asked for twice
		return 0, rejected(fmt.Errorf("%w: %w", ErrNotLeader, err))
	}
	switch a := answer.(type) {
	case *protocol.OK:
		return a.Applied, nil
	case *protocol.Error:
		return 0, changeError(l.Node, a)
	}
	return 0, unknown(fmt.Errorf("node %s answers with %v", l.Node, answer.Kind()))
}

// changeError is what the leader's refusal means here.
func changeError(leader string, e *protocol.Error) error {
	switch {
	case e.Outcome == protocol.OutcomeUnknown:
		return unknown(&toldError{fmt.Sprintf("node %s: %s", leader, e.Text), ErrLost})
	case e.Outcome == protocol.OutcomeRejected:
		return rejected(leaderError(leader, &protocol.ForwardAnswer{Outcome: e.Outcome, Code: e.Code, Text: e.Text}))
	}
	return &ChangeError{e.Code, e.Text}
}

// onMemberChange is the leader's side.
func (g *Group) onMemberChange(ctx context.Context, from string, m *protocol.MemberChange) protocol.Message {
	if !isServer(g.servers(), from) {
		return &protocol.Error{Code: protocol.CodeNotMember, Text: fmt.Sprintf("node %s is no member of the cluster", from)}
	}
	index, err := g.change(ctx, m)
	if err == nil {
		return &protocol.OK{Applied: index}
	}
	if refused, ok := errors.AsType[*ChangeError](err); ok {
		return &protocol.Error{Code: refused.Code, Text: refused.Text}
	}
	a := forwardAnswer(nil, 0, err)
	return &protocol.Error{Code: a.Code, Outcome: a.Outcome, Text: a.Text}
}

// oneChange waits until nobody else changes members; changed is its end.
func (g *Group) oneChange(ctx context.Context) error {
	select {
	case g.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Group) changed() { <-g.changing }

// change is made by the leader, one at a time.
func (g *Group) change(ctx context.Context, m *protocol.MemberChange) (uint64, error) {
	if err := g.oneChange(ctx); err != nil {
		return 0, rejected(ErrNotLeader)
	}
	defer g.changed()
	if err := g.takes(); err != nil {
		return 0, rejected(err)
	}
	if own, _ := g.judge(); m.PolicyVer < own.Policy || m.RevocationVer < own.Revocations {
		return 0, rejected(ErrStale)
	}
	switch m.Action {
	case protocol.ActionJoin:
		return g.join(ctx, m)
	case protocol.ActionRemove:
		return g.remove(ctx, m)
	case protocol.ActionTransfer:
		return g.transfer(ctx, m.Node)
	}
	return 0, refusal(protocol.CodeUnsupported, "this node knows no action %d on members", m.Action)
}

// join notes a node that shall belong to the cluster, or the new address of one that does.
func (g *Group) join(ctx context.Context, m *protocol.MemberChange) (uint64, error) {
	if host, port, err := net.SplitHostPort(m.Address); err != nil || host == "" || port == "" || port == "0" {
		return 0, refusal(protocol.CodeInvalid, "%q is no HOST:PORT by which other nodes reach node %s", m.Address, m.Node)
	}
	members := 0
	for _, i := range g.roster() {
		switch {
		case i.Node == m.Node && i.Role == protocol.MemberRemoved:
			return 0, refusal(protocol.CodeConflict, "node %s was removed; its id cannot be used again: join under a new one", m.Node)
		case i.Role == protocol.MemberRemoved, i.Node == m.Node:
			continue
		case i.Peer == m.Address:
			return 0, refusal(protocol.CodeConflict, "%s is the address of node %s", m.Address, i.Node)
		}
		members++
	}
	if members >= NodesMax {
		return 0, refusal(protocol.CodeLimit, "the cluster has %d members, which is the most; remove one first", members)
	}
	next, _ := g.View().Member(m.Node)
	next.Node, next.Peer = m.Node, m.Address
	index, err := g.note(ctx, state.AppendSetMember(nil, &state.SetMember{Member: next}))
	if err == nil {
		g.options.Logger.Info("a node may join", "joining", m.Node, "address", m.Address)
		g.news()
	}
	return index, err
}

// note proposes a command about members.
func (g *Group) note(ctx context.Context, cmd []byte) (uint64, error) {
	r, index, err := g.Do(ctx, cmd)
	switch {
	case err != nil:
		return 0, err
	case r.Status == state.StatusLimit:
		return 0, refusal(protocol.CodeLimit, "%s", r.Text)
	case r.Status == state.StatusInvalid:
		return 0, refusal(protocol.CodeInvalid, "%s", r.Text)
	case !r.Status.Done():
		return 0, refusal(protocol.CodeConflict, "%s", r.Text)
	}
	return index, nil
}

// remove leaves a tombstone for a node and takes it out of raft's configuration. The tombstone comes first: whoever leads
// sees by it what is to be done. Until raft has forgotten the node its vote and its links are as before, since a majority may
// need it.
func (g *Group) remove(ctx context.Context, m *protocol.MemberChange) (uint64, error) {
	servers := g.servers()
	old, known := g.View().Member(m.Node)
	switch {
	case !known && !isServer(servers, m.Node):
		return 0, refusal(protocol.CodeNotFound, "there is no member %s; list them: waxwing cluster members", m.Node)
	case known && old.Removed && !isServer(servers, m.Node):
		return g.View().Applied(), nil
	}
	if err := g.mayRemove(ctx, servers, m); err != nil {
		return 0, err
	}
	if m.Node == g.options.NodeID {
		if err := g.giveUp(ctx, nil); err != nil {
			return 0, refusal(protocol.CodeConflict, "node %s leads, and could not hand over: %v", m.Node, err)
		}
		return 0, rejected(ErrNotLeader) // the next leader does it
	}
	index, err := g.note(ctx, state.AppendRemoveMember(nil, &state.RemoveMember{Node: m.Node}))
	if err != nil {
		return 0, err
	}
	g.options.Logger.Info("a node is removed", "removed", m.Node, "force", m.Force)
	for err == nil && isServer(g.servers(), m.Node) {
		if err = g.takes(); err == nil {
			err = g.reconcile(ctx)
		}
	}
	if err != nil {
		g.options.Logger.Warn("the node is to be removed, but still in raft's configuration; it is tried again", "removed", m.Node, "error", err)
	}
	return index, nil
}

// mayRemove refuses what would stop the cluster, which force allows, or end it, which nothing does.
func (g *Group) mayRemove(ctx context.Context, servers []raft.Server, m *protocol.MemberChange) error {
	var left []raft.Server
	voter := false
	for _, s := range servers {
		switch {
		case s.Suffrage == raft.Voter && string(s.ID) != m.Node:
			left = append(left, s)
		case string(s.ID) == m.Node:
			voter = s.Suffrage == raft.Voter
		}
	}
	if !voter {
		return nil
	}
	here := g.inContact(ctx, left)
	switch {
	case here == 0:
		return refusal(protocol.CodeConflict, "without node %s no member would be left in contact: nobody could lead", m.Node)
	case here < len(left)/2+1 && !m.Force:
		return refusal(protocol.CodeConflict, "without node %s the cluster would stop: of the %d members left %d are in contact, and a majority is %d; bring one back first, or force it if you mean it", m.Node, len(left), here, len(left)/2+1)
	}
	return nil
}

// inContact counts the nodes that answer now and follow this one.
func (g *Group) inContact(ctx context.Context, servers []raft.Server) int {
	here := make([]bool, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		if string(s.ID) == g.options.NodeID {
			here[i] = true
			continue
		}
		node, address, err := splitAddress(s.Address)
		if err != nil {
			continue
		}
		asked.Go(func() {
			state, err := g.askState(ctx, node, address)
			here[i] = err == nil && state.Figures.Leader == g.options.NodeID
		})
	}
	asked.Wait()
	return len(slices.DeleteFunc(here, func(yes bool) bool { return !yes }))
}

// transfer makes another node lead.
func (g *Group) transfer(ctx context.Context, node string) (uint64, error) {
	if node == g.options.NodeID {
		return g.View().Applied(), nil
	}
	var to *raft.Server
	if node != "" {
		servers := g.servers()
		at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == node })
		switch {
		case at < 0:
			return 0, refusal(protocol.CodeNotFound, "there is no member %s; list them: waxwing cluster members", node)
		case servers[at].Suffrage != raft.Voter:
			return 0, refusal(protocol.CodeConflict, "node %s does not vote yet, and cannot lead", node)
		}
		to = &servers[at]
	}
	if err := g.giveUp(ctx, to); err != nil {
		return 0, refusal(protocol.CodeConflict, "the leadership was not handed over: %v", err)
	}
	g.options.Logger.Info("leadership handed over", "asked_for", node)
	return g.View().Applied(), nil
}

// giveUp makes a node lead; nil = the one that has most of the log.
func (g *Group) giveUp(ctx context.Context, to *raft.Server) error {
	if to == nil {
		return within(ctx, handOverTimeout, g.raft.LeadershipTransfer())
	}
	return within(ctx, handOverTimeout, g.raft.LeadershipTransferToServer(to.ID, to.Address))
}

// within waits for a future of raft's, for a time.
func within(ctx context.Context, d time.Duration, f raft.Future) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errors.New("raft did not answer in time"))
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- f.Error() }() // stays behind only for a forgotten future, see await
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
