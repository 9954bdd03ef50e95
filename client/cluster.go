package client

import (
	"context"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// MemberRole is what a node is in the cluster.
type MemberRole string

// Roles.
const (
	MemberLeader   MemberRole = "leader"
	MemberFollower MemberRole = "follower" // it votes
	MemberLearner  MemberRole = "learner"  // it does not vote yet
	MemberRemoved  MemberRole = "removed"  // its id is never used again
)

// MemberInfo is a node of the cluster, as the node that was asked knows it, and what it says of itself.
type MemberInfo struct {
	ID      string
	Role    MemberRole
	Voter   bool
	Peer    string    // HOST:PORT by which other nodes reach it
	Client  string    // HOST:PORT by which clients do; "" = not known yet
	Disk    string    // incarnation of its data folder; "" = not known yet
	Changed time.Time // log time of the last change of these; zero = never

	Fault string // why there are no figures; "" = those below are of now

	Leader    string // whom it follows; itself, if it leads; "" = nobody
	Term      uint64
	Applied   uint64        // raft index
	Last      uint64        // last index of its raft log
	Lag       uint64        // entries that the furthest node has and this one has not applied
	Contact   time.Duration // since the last sign of the leader; below 0 = there was none
	Version   string        // of its program
	PID       int
	CertUntil time.Time // when its certificate ends
	DiskFree  uint64    // bytes
	DiskTotal uint64
}

// ClusterInfo is the cluster as one node sees it.
type ClusterInfo struct {
	ID      string
	Node    string       // that was asked
	Leader  string       // "" = that node knows of none
	Members []MemberInfo // by id; removed ones included
}

// Cluster looks at the nodes of the cluster, and changes which they are. Get it from Client.Cluster.
type Cluster struct{ c *Client }

// Cluster returns the part of the client for the nodes of the cluster.
func (c *Client) Cluster() *Cluster { return &Cluster{c} }

// Status lists the nodes. It needs the right "observe". With Options.WithoutQuorum a node answers also while there is no leader.
func (m *Cluster) Status(ctx context.Context) (ClusterInfo, error) {
	answer, err := call[*protocol.Cluster](ctx, m.c, "cluster status", "", again, &protocol.ClusterStatus{})
	if err != nil {
		return ClusterInfo{}, err
	}
	info := ClusterInfo{ID: answer.Cluster, Node: answer.Node, Leader: answer.Leader}
	for i := range answer.Members {
		info.Members = append(info.Members, memberInfo(&answer.Members[i]))
	}
	return info, nil
}

// changeTimeout bounds a change of members when ctx does not: the leader may have to hand over first.
const changeTimeout = 30 * time.Second

// Join adds a node to the cluster, which lets it in from then on: without a vote until it has caught up. Of a member it changes
// the address. It may be repeated. It needs the right "admin".
func (m *Cluster) Join(ctx context.Context, node, address string) error {
	return m.change(ctx, "cluster join", node, again, &protocol.MemberJoin{Node: node, Address: address})
}

// Remove takes a node out of the cluster for ever: its id is never used again. It may be repeated. With force also if the
// cluster then stops until others are back. It needs the right "admin".
func (m *Cluster) Remove(ctx context.Context, node string, force bool) error {
	return m.change(ctx, "cluster remove", node, again, &protocol.MemberRemove{Node: node, Force: force})
}

// TransferLeader makes another node lead; "" = the one that has most of the log. It needs the right "admin".
func (m *Cluster) TransferLeader(ctx context.Context, node string) error {
	return m.change(ctx, "cluster transfer-leader", node, once, &protocol.LeaderTransfer{Node: node})
}

func (m *Cluster) change(ctx context.Context, op, node string, r repeat, request protocol.Message) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, changeTimeout)
		defer cancel()
	}
	answer, err := call[*protocol.OK](ctx, m.c, op, node, r, request)
	if err == nil {
		m.c.sawApplied(answer.Applied)
	}
	return err
}

// memberRoles are the words for the wire's roles.
var memberRoles = map[protocol.MemberRole]MemberRole{
	protocol.MemberLeader: MemberLeader, protocol.MemberFollower: MemberFollower, protocol.MemberLearner: MemberLearner, protocol.MemberRemoved: MemberRemoved,
}

func memberInfo(m *protocol.MemberInfo) MemberInfo {
	role, ok := memberRoles[m.Role]
	if !ok {
		role = MemberRole(fmt.Sprintf("role %d", m.Role))
	}
	f := &m.Figures
	return MemberInfo{ID: m.Node, Role: role, Voter: m.Voter, Peer: m.Peer, Client: m.Client, Disk: m.Disk, Changed: when(m.ChangedMs), Fault: m.Fault,
		Leader: f.Leader, Term: f.Term, Applied: f.Applied, Last: f.Last, Lag: f.Lag, Contact: time.Duration(min(f.ContactMs, 1<<40)) * time.Millisecond,
		Version: f.Software, PID: int(f.PID), CertUntil: when(f.CertUntilMs), DiskFree: f.DiskFree, DiskTotal: f.DiskTotal}
}
