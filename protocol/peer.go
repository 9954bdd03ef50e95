package protocol

import "strconv"

// PeerVersion is the one version of the links between nodes that this code speaks.
const PeerVersion = 1

// PeerPurpose says what a link between two nodes carries once it is open.
type PeerPurpose uint8

// Purposes.
const (
	PeerRaft     PeerPurpose = 1 // raft's own requests
	PeerForward  PeerPurpose = 2 // commands for the leader
	PeerGroup    PeerPurpose = 3 // leases of consumer groups
	PeerSegments PeerPurpose = 4 // sealed segments
	PeerControl  PeerPurpose = 5 // figures of nodes, and changes of members
	PeerRead     PeerPurpose = 6 // how far the leader has committed, for linearizable reads
)

var purposeNames = [...]string{PeerRaft: "raft", PeerForward: "forward", PeerGroup: "group", PeerSegments: "segments", PeerControl: "control", PeerRead: "read"}

// String is the purpose's name in PROTOCOL.md.
func (p PeerPurpose) String() string {
	if int(p) < len(purposeNames) && purposeNames[p] != "" {
		return purposeNames[p]
	}
	return "purpose_" + strconv.Itoa(int(p))
}

// PeerHello is the first frame of a link between nodes, from the one that dialed.
type PeerHello struct {
	Versions []uint64 // of links, best first
	Cluster  string   // id of the sender's cluster, "" = it belongs to none yet
	From     string   // the sender's node id; its certificate must say the same
	To       string   // whom the sender means to talk to
	Group    string   // raft group
	Purpose  PeerPurpose
	Disk     string // incarnation of the sender's data folder
	Software string
	Features []string
	Client   string // HOST:PORT by which clients reach the sender
	Commands uint64 // the highest kind of command that the sender can apply
	Fresh    string // of a node without a log: which nodes it waits for, as one word; "" = it has a log
	SealKey  []byte // public key to which secrets for the sender are sealed, 32 bytes; empty = it has none
}

// PeerWelcome answers PeerHello. What the purpose says follows.
type PeerWelcome struct {
	Version  uint64
	Cluster  string
	Node     string
	Disk     string
	Software string
	Features []string
	Client   string
	Commands uint64
	Fresh    string
	SealKey  []byte
}

func (m *PeerHello) walk(w *walker) {
	list(w, &m.Versions, versionsMax, func(w *walker, v *uint64) { w.uint(v) })
	w.str(&m.Cluster, nameBytes)
	w.str(&m.From, nameBytes)
	w.str(&m.To, nameBytes)
	w.str(&m.Group, nameBytes)
	small(w, &m.Purpose)
	w.str(&m.Disk, nameBytes)
	w.text(&m.Software, nameBytes)
	list(w, &m.Features, featuresMax, feature)
	w.str(&m.Client, addressBytes)
	w.uint(&m.Commands)
	w.str(&m.Fresh, nameBytes)
	w.lateBin(&m.SealKey, sealKeyBytes)
}

func (m *PeerWelcome) walk(w *walker) {
	w.uint(&m.Version)
	w.str(&m.Cluster, nameBytes)
	w.str(&m.Node, nameBytes)
	w.str(&m.Disk, nameBytes)
	w.text(&m.Software, nameBytes)
	list(w, &m.Features, featuresMax, feature)
	w.str(&m.Client, addressBytes)
	w.uint(&m.Commands)
	w.str(&m.Fresh, nameBytes)
	w.lateBin(&m.SealKey, sealKeyBytes)
}
