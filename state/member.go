package state

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Member is what the group knows of a node, beside raft's own list of who votes.
type Member struct {
	Node     string  // node id
	Disk     string  // incarnation of the data folder that it joined with: under another one it may not vote
	Peer     string  // HOST:PORT by which other nodes reach it
	Client   string  // HOST:PORT by which clients do
	Software string  // version of its program
	Commands uint64  // the highest kind of command that it can apply
	AtMs     int64   // log time of the last change, unix ms
	Removed  bool    // a tombstone: the id is never used again
	SealKey  SealKey // to which secrets for it are sealed; SetSealKey tells it
}

// LatestCommand is the highest kind of command that this program can apply. The leader proposes no kind above what
// all members know.
const LatestCommand = uint64(kindSettle)

// SetMember tells about a node, or changes what was told. Repeating it changes nothing. The id of a node that was
// removed, or that has another disk, is a conflict.
type SetMember struct {
	Member Member // AtMs, Removed and SealKey are set by the machine
}

// RemoveMember leaves a tombstone for a node, known or not. It ends all ticket keys: the node knows them.
type RemoveMember struct {
	Node string
}

// Limits of members. Tombstones count.
const (
	membersMax      = 1_000
	nodeBytesMax    = 128
	addressBytesMax = 512
)

const (
	setMemberFields    = 6
	removeMemberFields = 1
)

// AppendSetMember encodes c.
func AppendSetMember(dst []byte, c *SetMember) []byte {
	return appendMemberFields(appendHead(dst, kindSetMember, setMemberFields), &c.Member)
}

// appendMemberFields is what the command and the checkpoint share.
func appendMemberFields(dst []byte, m *Member) []byte {
	dst = codec.AppendStr(dst, m.Node)
	dst = codec.AppendStr(dst, m.Disk)
	dst = codec.AppendStr(dst, m.Peer)
	dst = codec.AppendStr(dst, m.Client)
	dst = codec.AppendStr(dst, m.Software)
	return codec.AppendUint(dst, m.Commands)
}

func readMemberFields(c *codec.Cursor) Member {
	return Member{Node: string(c.Str(nodeBytesMax)), Disk: string(c.Str(nodeBytesMax)), Peer: string(c.Str(addressBytesMax)),
		Client: string(c.Str(addressBytesMax)), Software: string(c.Str(nodeBytesMax)), Commands: c.Uint()}
}

func decodeSetMember(body []byte) (SetMember, error) {
	f, err := openFields(body, kindSetMember, setMemberFields)
	if err != nil {
		return SetMember{}, err
	}
	c := SetMember{Member: readMemberFields(&f.Cursor)}
	return c, f.close()
}

// AppendRemoveMember encodes c.
func AppendRemoveMember(dst []byte, c *RemoveMember) []byte {
	return codec.AppendStr(appendHead(dst, kindRemoveMember, removeMemberFields), c.Node)
}

func decodeRemoveMember(body []byte) (RemoveMember, error) {
	f, err := openFields(body, kindRemoveMember, removeMemberFields)
	if err != nil {
		return RemoveMember{}, err
	}
	c := RemoveMember{Node: f.text(nodeBytesMax)}
	return c, f.close()
}

func (m *Machine) onSetMember(c *SetMember, e *Effects) Result {
	next := c.Member
	old, there := m.next.members.Get([]byte(next.Node))
	switch {
	case next.Node == "":
		return Result{Status: StatusInvalid, Text: "the node has no id"}
	case there && old.Removed:
		return Result{Status: StatusConflict, Text: fmt.Sprintf("node %s was removed; its id cannot be used again: join under a new one", next.Node)}
	case there && old.Disk != "" && old.Disk != next.Disk:
		return Result{Status: StatusConflict, Text: fmt.Sprintf("node %s joined with another disk: remove it, and join under a new id", next.Node)}
	case !there && m.next.members.Len() >= membersMax:
		return Result{Status: StatusLimit, Text: fmt.Sprintf("at most %d nodes are remembered, removed ones included", membersMax)}
	}
	next.AtMs, next.Removed, next.SealKey = old.AtMs, false, old.SealKey
	if there && next == old {
		return Result{Status: StatusOK}
	}
	m.putMember(next, e)
	return Result{Status: StatusOK}
}

func (m *Machine) onRemoveMember(c *RemoveMember, e *Effects) Result {
	old, there := m.next.members.Get([]byte(c.Node))
	switch {
	case c.Node == "":
		return Result{Status: StatusInvalid, Text: "the node has no id"}
	case there && old.Removed:
		return Result{Status: StatusOK}
	case !there && m.next.members.Len() >= membersMax:
		return Result{Status: StatusLimit, Text: fmt.Sprintf("at most %d nodes are remembered, removed ones included", membersMax)}
	}
	old.Node, old.Removed, old.SealKey = c.Node, true, SealKey{}
	m.dropTickets(e)
	m.putMember(old, e)
	return Result{Status: StatusOK}
}

func (m *Machine) putMember(next Member, e *Effects) {
	next.AtMs = m.next.timeMs
	m.next.members, _, _ = m.next.members.Insert([]byte(next.Node), next)
	e.Change |= ChangedMembers
}

// Member looks a node up. One that was removed is there, too.
func (v *View) Member(node string) (Member, bool) { return v.members.Get([]byte(node)) }

// Members lists all nodes that were ever told of, by id. The slice is the caller's.
func (v *View) Members() []Member {
	list := make([]Member, 0, v.members.Len())
	it := v.members.Root().Iterator()
	for _, m, ok := it.Next(); ok; _, m, ok = it.Next() {
		list = append(list, m)
	}
	return list
}
