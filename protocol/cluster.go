package protocol

// Limits of the messages about members.
const membersMax = 1_000 // removed ones included

// ClusterStatus asks for the nodes of the cluster, as the answering node knows them and as they answer it within 2 s.
type ClusterStatus struct{}

// Cluster answers ClusterStatus.
type Cluster struct {
	Cluster string // id; "" = it has none yet
	Node    string // that answers
	Leader  string // "" = the answering node knows of none
	Members []MemberInfo
}

// MemberRole is what a node is in the cluster.
type MemberRole uint8

// Roles.
const (
	MemberLeader   MemberRole = 1
	MemberFollower MemberRole = 2 // it votes
	MemberLearner  MemberRole = 3 // it does not vote yet, or it is not even there yet
	MemberRemoved  MemberRole = 4 // its id is never used again
)

// MemberInfo is what is known of a node.
type MemberInfo struct {
	Node      string
	Role      MemberRole
	Voter     bool   // its vote counts
	Peer      string // HOST:PORT by which other nodes reach it
	Client    string // HOST:PORT by which clients do
	Disk      string // incarnation of its data folder; "" = not known yet
	ChangedMs int64  // log time of the last change, unix ms; 0 = never
	Fault     string // why there are no figures; "" = they are of now
	Figures   NodeFigures
}

// NodeFigures is what a node says of itself.
type NodeFigures struct {
	Leader      string // whom it follows; itself, if it leads; "" = nobody
	Term        uint64
	Applied     uint64 // raft index
	Last        uint64 // last index of its raft log
	Lag         uint64 // entries that it has not applied and the furthest node has; filled in by the node that answers a client
	ContactMs   int64  // since the last sign of the leader; -1 = there was none
	Software    string
	PID         uint64
	CertUntilMs int64 // when its certificate ends, unix ms
	DiskFree    uint64
	DiskTotal   uint64
}

// MemberJoin adds a node to the cluster, which votes once it has caught up, or changes the address of one. Repeating it
// changes nothing.
type MemberJoin struct {
	Node    string
	Address string // HOST:PORT of its peer port
}

// MemberRemove takes a node out of the cluster for ever. Repeating it changes nothing.
type MemberRemove struct {
	Node  string
	Force bool // also if the cluster then stops until others are back
}

// LeaderTransfer makes another node lead.
type LeaderTransfer struct {
	Node string // "" = whoever has most of the log
}

// NodeStatus asks a node for its figures.
type NodeStatus struct{}

// NodeState answers NodeStatus.
type NodeState struct {
	Figures NodeFigures
	Members []NodeAddress // of raft's newest configuration there
}

// NodeAddress is a node and where others reach it.
type NodeAddress struct {
	Node    string
	Address string
}

// MemberAction is what a MemberChange is about.
type MemberAction uint8

// Actions.
const (
	ActionJoin     MemberAction = 1
	ActionRemove   MemberAction = 2
	ActionTransfer MemberAction = 3
)

// MemberChange asks the leader for a change that an admin wants. (KindOK)
type MemberChange struct {
	PolicyVer     uint64 // under which it was allowed
	RevocationVer uint64
	Action        MemberAction
	Node          string
	Address       string
	Force         bool
}

// ReadIndex asks the leader how far it has committed: a node that has applied so much shows everything that was acknowledged
// before the question came. (KindOK)
type ReadIndex struct{}

func (*ClusterStatus) walk(*walker) {}

func (m *Cluster) walk(w *walker) {
	w.str(&m.Cluster, nameBytes)
	w.str(&m.Node, nameBytes)
	w.str(&m.Leader, nameBytes)
	list(w, &m.Members, membersMax, func(w *walker, i *MemberInfo) { w.group(i.walk) })
}

func (i *MemberInfo) walk(w *walker) {
	w.str(&i.Node, nameBytes)
	small(w, &i.Role)
	w.bool(&i.Voter)
	w.str(&i.Peer, addressBytes)
	w.str(&i.Client, addressBytes)
	w.str(&i.Disk, nameBytes)
	w.int(&i.ChangedMs)
	w.text(&i.Fault, textBytes)
	w.group(i.Figures.walk)
}

func (f *NodeFigures) walk(w *walker) {
	w.str(&f.Leader, nameBytes)
	w.uint(&f.Term)
	w.uint(&f.Applied)
	w.uint(&f.Last)
	w.uint(&f.Lag)
	w.int(&f.ContactMs)
	w.text(&f.Software, nameBytes)
	w.uint(&f.PID)
	w.int(&f.CertUntilMs)
	w.uint(&f.DiskFree)
	w.uint(&f.DiskTotal)
}

func (m *MemberJoin) walk(w *walker) {
	w.str(&m.Node, nameBytes)
	w.str(&m.Address, addressBytes)
}

func (m *MemberRemove) walk(w *walker) {
	w.str(&m.Node, nameBytes)
	w.bool(&m.Force)
}

func (m *LeaderTransfer) walk(w *walker) { w.str(&m.Node, nameBytes) }

func (*NodeStatus) walk(*walker) {}

func (m *NodeState) walk(w *walker) {
	w.group(m.Figures.walk)
	list(w, &m.Members, membersMax, func(w *walker, a *NodeAddress) { w.group(a.walk) })
}

func (a *NodeAddress) walk(w *walker) {
	w.str(&a.Node, nameBytes)
	w.str(&a.Address, addressBytes)
}

func (m *MemberChange) walk(w *walker) {
	w.uint(&m.PolicyVer)
	w.uint(&m.RevocationVer)
	small(w, &m.Action)
	w.str(&m.Node, nameBytes)
	w.str(&m.Address, addressBytes)
	w.bool(&m.Force)
}

func (*ReadIndex) walk(*walker) {}

// Kind implements Message.
func (*ClusterStatus) Kind() Kind  { return KindClusterStatus }
func (*Cluster) Kind() Kind        { return KindCluster }
func (*MemberJoin) Kind() Kind     { return KindMemberJoin }
func (*MemberRemove) Kind() Kind   { return KindMemberRemove }
func (*LeaderTransfer) Kind() Kind { return KindLeaderTransfer }
func (*NodeStatus) Kind() Kind     { return KindNodeStatus }
func (*NodeState) Kind() Kind      { return KindNodeState }
func (*MemberChange) Kind() Kind   { return KindMemberChange }
func (*ReadIndex) Kind() Kind      { return KindReadIndex }

// AppendFrame implements Message.
func (m *ClusterStatus) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *Cluster) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *MemberJoin) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *MemberRemove) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *LeaderTransfer) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
func (m *NodeStatus) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *NodeState) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *MemberChange) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *ReadIndex) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
