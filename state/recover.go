package state

import (
	"fmt"
	"slices"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Recover makes another cluster of this one, with Node as its only member: what an operator does once the majority is lost for
// good. Every other node that is known, or named in Lost, gets a tombstone, all ticket keys end, and the cluster has the id
// Cluster from then on. Everything else stays as it is. From is the id before: on another cluster nothing changes.
type Recover struct {
	From    string
	Cluster string
	Node    string
	Lost    []string // nodes of raft's configuration, of which the state need not have heard
}

const recoverFields = 4

// AppendRecover encodes c.
func AppendRecover(dst []byte, c *Recover) []byte {
	dst = appendHead(dst, kindRecover, recoverFields)
	for _, s := range []string{c.From, c.Cluster, c.Node} {
		dst = codec.AppendStr(dst, s)
	}
	dst = codec.AppendArray(dst, len(c.Lost))
	for _, node := range c.Lost {
		dst = codec.AppendStr(dst, node)
	}
	return dst
}

func decodeRecover(body []byte) (Recover, error) {
	f, err := openFields(body, kindRecover, recoverFields)
	if err != nil {
		return Recover{}, err
	}
	c := Recover{From: f.text(clusterIDBytesMax), Cluster: f.text(clusterIDBytesMax), Node: f.text(nodeBytesMax)}
	for range f.Array(membersMax) {
		c.Lost = append(c.Lost, f.text(nodeBytesMax))
	}
	return c, f.close()
}

// IsRecovery says whether an entry begins with a Recover.
func IsRecovery(b []byte) bool {
	in, err := openEntry(b)
	if err != nil {
		return false
	}
	cmd, ok, err := in.next()
	return err == nil && ok && CommandKind(cmd) == CommandRecover
}

func (m *Machine) onRecover(c *Recover, e *Effects) Result {
	own, there := m.next.members.Get([]byte(c.Node))
	switch {
	case c.Cluster == "" || c.Node == "" || c.Cluster == c.From:
		return Result{Status: StatusInvalid, Text: "a recovery needs a node, and an id of the new cluster that is not the old one's"}
	case m.next.clusterID != c.From:
		return Result{Status: StatusConflict, Text: fmt.Sprintf("this is cluster %s, not %s", m.next.clusterID, c.From)}
	case there && own.Removed:
		return Result{Status: StatusConflict, Text: fmt.Sprintf("node %s was removed; its id cannot be used again", c.Node)}
	}
	lost, strangers := m.lost(c)
	if m.next.members.Len()+strangers > membersMax {
		return Result{Status: StatusLimit, Text: fmt.Sprintf("at most %d nodes are remembered, removed ones included", membersMax)}
	}
	m.next.clusterID = c.Cluster
	m.dropTickets(e)
	for _, gone := range lost {
		gone.Removed, gone.SealKey = true, SealKey{}
		m.putMember(gone, e)
	}
	e.Change |= ChangedMembers
	return Result{Status: StatusOK}
}

// lost are the nodes that a recovery leaves behind and that have no tombstone yet, and how many of them nobody told of.
func (m *Machine) lost(c *Recover) (list []Member, strangers int) {
	for _, old := range m.next.Members() {
		if old.Node != c.Node && !old.Removed {
			list = append(list, old)
		}
	}
	for _, node := range c.Lost {
		_, known := m.next.members.Get([]byte(node))
		if known || node == "" || node == c.Node || slices.ContainsFunc(list, func(o Member) bool { return o.Node == node }) {
			continue
		}
		list = append(list, Member{Node: node})
		strangers++
	}
	return list, strangers
}
