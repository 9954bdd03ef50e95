package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// Members shows all nodes as this one knows them, by id, with what each says of itself now. The others are asked at the same
// time; who does not answer within 2 s is shown without figures.
func (g *Group) Members(ctx context.Context) *protocol.Cluster {
	c := &protocol.Cluster{Cluster: g.View().ClusterID(), Node: g.options.NodeID, Members: g.roster()}
	c.Leader, _ = g.Leader()
	var asked sync.WaitGroup
	for i := range c.Members {
		if m := &c.Members[i]; m.Role != protocol.MemberRemoved {
			asked.Go(func() { g.fill(ctx, m) })
		}
	}
	asked.Wait()
	end := uint64(0)
	for i := range c.Members {
		end = max(end, c.Members[i].Figures.Last, c.Members[i].Figures.Applied)
	}
	for i := range c.Members {
		m := &c.Members[i]
		if m.Node == c.Leader && m.Role != protocol.MemberRemoved {
			m.Role = protocol.MemberLeader
		}
		if m.Fault == "" && m.Role != protocol.MemberRemoved {
			m.Figures.Lag = end - m.Figures.Applied
		}
	}
	return c
}

// fill asks a node for its figures.
func (g *Group) fill(ctx context.Context, m *protocol.MemberInfo) {
	if m.Node == g.options.NodeID {
		m.Figures = g.figures()
		return
	}
	s, err := g.askState(ctx, m.Node, m.Peer)
	if err != nil {
		m.Fault = fmt.Sprintf("no answer: %v", err)
		return
	}
	m.Figures = s.Figures
}

// roster lists whom raft's configuration and the state name.
func (g *Group) roster() (list []protocol.MemberInfo) {
	servers := g.servers()
	for _, m := range g.View().Members() {
		i := protocol.MemberInfo{Node: m.Node, Role: protocol.MemberLearner, Peer: m.Peer, Client: m.Client, Disk: m.Disk, ChangedMs: m.AtMs}
		if m.Removed {
			i.Role = protocol.MemberRemoved
		}
		list = append(list, i)
	}
	for _, s := range servers {
		at := slices.IndexFunc(list, func(i protocol.MemberInfo) bool { return i.Node == string(s.ID) })
		if at < 0 {
			at = len(list)
			list = append(list, protocol.MemberInfo{Node: string(s.ID), Role: protocol.MemberLearner})
		}
		m := &list[at]
		if _, address, err := splitAddress(s.Address); err == nil {
			m.Peer = address
		}
		if s.Suffrage == raft.Voter && m.Role != protocol.MemberRemoved {
			m.Role, m.Voter = protocol.MemberFollower, true
		}
	}
	slices.SortFunc(list, func(a, b protocol.MemberInfo) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// removed are the nodes that were removed and that raft's configuration does not name any more, as this node knows it.
func (g *Group) removed() (list []string) {
	servers := g.servers()
	for _, m := range g.View().Members() {
		if m.Removed && !isServer(servers, m.Node) {
			list = append(list, m.Node)
		}
	}
	return list
}

func isServer(servers []raft.Server, node string) bool {
	return slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == node })
}

// memberOf is what the state knows of a node that may be a member.
func (g *Group) memberOf(node string) (state.Member, bool) {
	m, known := g.View().Member(node)
	return m, known && !m.Removed
}
