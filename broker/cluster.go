package broker

import (
	"errors"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// noQuorumFeature of HELLO: the client wants to know how the cluster is doing, also from a node without a leader.
const noQuorumFeature = "no_quorum"

// lonely are the requests that such a client may send while there is no leader.
var lonely = map[protocol.Kind]bool{protocol.KindClusterStatus: true, protocol.KindPing: true, protocol.KindPong: true}

// onClusterStatus shows the nodes, each with what it says of itself now.
func (c *conn) onClusterStatus(*protocol.ClusterStatus) (protocol.Message, *fault) {
	return c.s.options.Group.Members(c.ctx), nil
}

// onMemberJoin notes a node that shall belong to the cluster.
func (c *conn) onMemberJoin(m *protocol.MemberJoin) (protocol.Message, *fault) {
	if err := identity.CheckNode(m.Node); err != nil {
		return nil, invalid("%q cannot be the id of a node: %v", clip(m.Node), err)
	}
	return c.changeMembers(&protocol.MemberChange{Action: protocol.ActionJoin, Node: m.Node, Address: m.Address})
}

// onMemberRemove takes a node out for ever.
func (c *conn) onMemberRemove(m *protocol.MemberRemove) (protocol.Message, *fault) {
	return c.changeMembers(&protocol.MemberChange{Action: protocol.ActionRemove, Node: m.Node, Force: m.Force})
}

// onLeaderTransfer makes another node lead.
func (c *conn) onLeaderTransfer(m *protocol.LeaderTransfer) (protocol.Message, *fault) {
	return c.changeMembers(&protocol.MemberChange{Action: protocol.ActionTransfer, Node: m.Node})
}

// changeMembers has the leader do it.
func (c *conn) changeMembers(m *protocol.MemberChange) (protocol.Message, *fault) {
	index, err := c.s.options.Group.Change(c.ctx, c.s.judged(), m)
	if refused, ok := errors.AsType[*cluster.ChangeError](err); ok {
		return nil, &fault{code: refused.Code, outcome: protocol.OutcomeRejected, text: refused.Text}
	}
	if err != nil {
		c.s.sync() // it may be that this node judged by an old policy
		return nil, c.s.faultOf(err)
	}
	c.s.log.Info("members changed", "action", actions[m.Action], "node", clip(m.Node), "address", clip(m.Address), "force", m.Force, "by", c.peer.Principal)
	return &protocol.OK{Applied: index}, nil
}

var actions = map[protocol.MemberAction]string{protocol.ActionJoin: "join", protocol.ActionRemove: "remove", protocol.ActionTransfer: "transfer"}
