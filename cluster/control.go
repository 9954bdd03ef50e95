package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
)

// controlLink is what a link for one question to another node is for.
var controlLink = peer.Key{Group: GroupName, Purpose: protocol.PeerControl}

// Bounds of such a link.
const (
	controlTimeout       = 20 * time.Second
	controlFrameBytesMax = 1 << 20
	figuresTimeout       = 2 * time.Second // for another node's figures
)

// serveControl answers the one question of a link.
func (g *Group) serveControl(c *peer.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	body, err := protocol.NewFrameReader(c, controlFrameBytesMax).Next()
	if err != nil {
		return
	}
	id, m, err := protocol.Decode(body)
	if err != nil {
		g.options.Logger.Warn("a link for control ended", "peer", c.Node(), "error", err)
		return
	}
	var answer protocol.Message
	switch m := m.(type) {
	case *protocol.NodeStatus:
		answer = g.state()
	case *protocol.MemberChange:
		answer = g.onMemberChange(ctx, c.Node(), m)
	default:
		g.options.Logger.Warn("a link for control ended: the other node asked for something else", "peer", c.Node(), "kind", m.Kind().String())
		return
	}
	c.Write(answer.AppendFrame(nil, id))
}

// errAsked says that a question reached the other node, and no answer came.
var errAsked = errors.New("the link ended before the answer")

// ask asks a node one question. An error that is not errAsked means that it never got there.
func (g *Group) ask(ctx context.Context, node, address string, m protocol.Message) (protocol.Message, error) {
	c, err := g.links.Dial(ctx, node, address, controlLink)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := c.Write(m.AppendFrame(nil, 1)); err != nil {
		return nil, fmt.Errorf("node %s: %w: %w", node, errAsked, err)
	}
	body, err := protocol.NewFrameReader(c, controlFrameBytesMax).Next()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w: %w", node, errAsked, errors.Join(context.Cause(ctx), err))
	}
	_, answer, err := protocol.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w: %w", node, errAsked, err)
	}
	return answer, nil
}

// askState asks a node for its figures and its view of the members.
func (g *Group) askState(ctx context.Context, node, address string) (*protocol.NodeState, error) {
	ctx, cancel := context.WithTimeout(ctx, figuresTimeout)
	defer cancel()
	answer, err := g.ask(ctx, node, address, &protocol.NodeStatus{})
	if err != nil {
		return nil, err
	}
	s, ok := answer.(*protocol.NodeState)
	if !ok {
		return nil, fmt.Errorf("node %s answers with %v", node, answer.Kind())
	}
	return s, nil
}

// Facts are what the program knows of itself, for others to see.
type Facts struct {
	Software  string
	PID       int
	CertUntil time.Time // when its certificate ends
}

// state is what this node says of itself when it is asked.
func (g *Group) state() *protocol.NodeState {
	s := &protocol.NodeState{Figures: g.figures()}
	for _, server := range g.servers() {
		if node, address, err := splitAddress(server.Address); err == nil {
			s.Members = append(s.Members, protocol.NodeAddress{Node: node, Address: address})
		}
	}
	return s
}

// figures are this node's now.
func (g *Group) figures() protocol.NodeFigures {
	status, space := g.Status(), g.options.Log.Space()
	f := protocol.NodeFigures{Leader: status.Leader, Term: status.Term, Applied: status.Applied, Last: status.Last, ContactMs: -1, DiskFree: space.Free, DiskTotal: space.Total}
	switch last := g.raft.LastContact(); {
	case status.Leader == status.Node:
		f.ContactMs = 0
	case !last.IsZero():
		f.ContactMs = time.Since(last).Milliseconds()
	}
	if g.options.Facts != nil {
		facts := g.options.Facts()
		f.Software, f.PID, f.CertUntilMs = facts.Software, uint64(facts.PID), facts.CertUntil.UnixMilli()
	}
	return f
}
