package protocol

// The messages, one struct per kind. Fields are encoded in the order they stand
// here, after kind and request id. PROTOCOL.md is the normative text.

import "math"

// Version is the one protocol version this code speaks.
const Version = 1

// Hello is the client's first frame.
type Hello struct {
	Versions []uint64 // protocol versions the client speaks, best first, at most 16
	Client   string   // name and version of the client program, for logs, at most 128 bytes
	Features []string // at most 32 of at most 64 bytes; unknown ones are ignored
}

// Welcome answers Hello. Only after it is the client connected.
type Welcome struct {
	Version   uint64
	Node      string // node id
	Cluster   string // cluster id
	Leader    string // advertised client address of the leader, "" if unknown
	Broker    string // broker software version
	Identity  string // the principal as the broker sees it
	Resumed   bool   // this TLS connection resumed a session
	ExpiresMs int64  // unix ms: when the broker will close this connection (earliest NotAfter of the chain)
	PolicyVer uint64
	Limits    Limits
	Features  []string
}

// Limits are the caps a client must keep to; sent in Welcome.
type Limits struct {
	FrameBytes    uint64 // largest frame either side may send
	BatchBytes    uint64 // largest record blob of one PUBLISH
	RecordBytes   uint64 // largest encoded record
	KeyBytes      uint64
	HeaderBytes   uint64
	HeaderCount   uint64
	BatchRecords  uint64 // most records of one PUBLISH
	WindowBytes   uint64 // most publish bytes in flight per connection before the broker stops reading
	Subscriptions uint64 // per connection
}

// Refused ends a connection that was never welcomed.
type Refused struct {
	Code     Code
	Text     string
	Identity string // what the broker saw, "" if nothing
}

// Error answers a request that failed.
type Error struct {
	Code      Code
	Outcome   Outcome
	Text      string // what, where, what to do next
	Incident  string // id to look up in the broker's log (CodeInternal), else ""
	Rule      string // CodeDenied: the deciding rule, "" = default deny
	Line      uint64 // CodeDenied: its line in the policy document, 0 = none
	PolicyVer uint64 // CodeDenied: the version that decided
}

// EventType says what an Event tells.
type EventType uint8

// Events.
const (
	EventExpiring  EventType = 1 // certificate ends soon; Value = unix ms
	EventClosing   EventType = 2 // the broker is about to close the connection; Code and Text say why
	EventLeader    EventType = 3 // Text = advertised client address of the leader
	EventSubClosed EventType = 4 // subscription Sub ended; Code and Text say why
	EventGap       EventType = 5 // records of (Topic, Partition) below Value are gone
	EventRecreated EventType = 6 // Topic was deleted or created anew; its partitions left subscription Sub
	EventPolicy    EventType = 7 // policy version is now Value
	EventAssigned  EventType = 8 // a topic or partition born after SUBSCRIBE joined subscription Sub; Value = incarnation
	EventDenied    EventType = 9 // policy cut Topic out of subscription Sub
)

// Event tells the client something it did not ask for.
type Event struct {
	Type      EventType
	Sub       uint64
	Topic     string
	Partition uint32
	Value     uint64
	Code      Code
	Text      string
}

// Ping asks for a Pong with the same payload.
type Ping struct{ Payload uint64 }

// Pong answers Ping.
type Pong struct{ Payload uint64 }

// OK answers a request that has nothing else to say.
type OK struct{ Applied uint64 } // raft index that holds the change; pass it as After to read your write

// Publish carries one batch for one partition. Records is a msgpack bin and the
// last field: a reader slices it from the frame.
type Publish struct {
	Topic       string
	Partition   uint32
	Incarnation uint64   // 0 = any
	Producer    [16]byte // chosen by the client at random
	Epoch       uint64
	Sequence    uint64 // sequence of the first record, counted per producer and partition from 0
	Count       uint32
	Records     []byte // see package batch
}

// Published answers Publish.
type Published struct {
	Incarnation uint64
	Offset      int64 // of the first record
	TimeMs      int64 // append time, unix ms
	Duplicate   bool  // the broker had this sequence already; Offset is the original one
	Applied     uint64
}

// AfterLinearizable as After asks for a linearizable answer: one that shows everything that was acknowledged, to whomever,
// before the request came.
const AfterLinearizable = math.MaxUint64

// StartKind says where a subscription starts.
type StartKind uint8

// Starts.
const (
	StartLatest   StartKind = 0
	StartEarliest StartKind = 1
	StartOffset   StartKind = 2 // Value = offset; needs exactly one partition
	StartTime     StartKind = 3 // Value = unix ms: first record appended at or after it
	StartTail     StartKind = 4 // Value = n: the last n records of each partition
)

// Cursor pins one partition of a subscription to an offset (resume after reconnect).
type Cursor struct {
	Topic       string
	Partition   uint32
	Incarnation uint64
	Offset      int64
}

// Subscribe opens a subscription; the client picks Sub, unique on its connection.
type Subscribe struct {
	Sub           uint64
	Patterns      []string // at most 64
	Start         StartKind
	Value         int64
	CreditBytes   uint64
	CreditRecords uint64
	Cursors       []Cursor // override Start for these partitions, at most Limits partitions per subscription
	After         uint64   // wait until this index is applied
	HasPartition  bool
	OnlyPartition uint32 // with HasPartition: only this partition of the topics
}

// Assignment is one partition of a subscription and the range it held at SUBSCRIBE.
type Assignment struct {
	Topic       string
	Partition   uint32
	Incarnation uint64
	Start       int64 // first offset that will be delivered
	End         int64 // next offset to be written, at the moment of subscribing
}

// Subscribed answers Subscribe. A client that stops at the end stops when every
// partition has reached End.
type Subscribed struct {
	Applied     uint64
	Assignments []Assignment
}

// Deliver carries whole stored batches of one partition, in order. The client
// skips records below the offset it asked for.
type Deliver struct {
	Sub         uint64
	Topic       string
	Partition   uint32
	Incarnation uint64
	Next        int64  // offset behind the last record in Batches
	End         int64  // end of the partition as the broker knew it
	Records     uint32 // records in Batches, as counted against credit
	Batches     []byte // one or more stored batches (package batch), last field, bin
}

// Credit grants more. A grant is added to what is left.
type Credit struct {
	Sub     uint64
	Bytes   uint64
	Records uint64
}

// Unsubscribe ends a subscription.
type Unsubscribe struct{ Sub uint64 }

// TopicSpec are the settings of a topic. 0 means unlimited for the Max fields.
type TopicSpec struct {
	Partitions uint32
	MaxAgeMs   uint64
	MaxBytes   uint64
	MaxRecords uint64
}

// TopicCreate creates a topic. With IfNotExists an existing topic is answered as it
// is, whatever its settings. With Auto the broker creates it under the policy's
// auto_create rule (Spec is then ignored) if the caller may publish or subscribe.
type TopicCreate struct {
	Name        string
	Spec        TopicSpec
	IfNotExists bool
	Auto        bool
}

// TopicGet asks for one topic.
type TopicGet struct {
	Name  string
	After uint64
}

// TopicList asks for the topics that match Pattern and that the caller may see, in
// name order, starting behind From, at most Max (0 = 1000).
type TopicList struct {
	Pattern string
	From    string
	Max     uint32
	After   uint64
}

// TopicAlter changes settings; nil-able fields are pairs (Set bit i of Mask = field i
// of TopicSpec is changed).
type TopicAlter struct {
	Name string
	Mask uint8
	Spec TopicSpec
}

// Bits of TopicAlter.Mask.
const (
	AlterPartitions uint8 = 1 << iota
	AlterMaxAge
	AlterMaxBytes
	AlterMaxRecords
)

// TopicDelete removes a topic and its records. Incarnation 0 = any.
type TopicDelete struct {
	Name        string
	Incarnation uint64
}

// PartitionInfo is one partition's range.
type PartitionInfo struct {
	ID   uint64
	Low  int64 // first readable offset
	Next int64 // offset the next record will get
}

// TopicInfo describes a topic.
type TopicInfo struct {
	Name        string
	Incarnation uint64
	CreatedMs   int64
	CreatedBy   string
	Spec        TopicSpec
	Partitions  []PartitionInfo
}

// Topic answers create, get and alter.
type Topic struct {
	Applied uint64
	Created bool
	Info    TopicInfo
}

// Topics answers TopicList. More is set when the list goes on behind the last name.
type Topics struct {
	Topics []TopicInfo
	More   bool
}

// PolicyGet asks for the policy document. After as in Subscribe.
type PolicyGet struct{ After uint64 }

// PolicyApply replaces the policy if the current version is Expect.
type PolicyApply struct {
	Expect   uint64
	Force    bool // skip the lock-out check
	Document []byte
}

// Policy answers PolicyGet and PolicyApply.
type Policy struct {
	Applied   uint64
	Version   uint64
	ChangedBy string
	ChangedMs int64
	Document  []byte
}

// PolicyExplain asks why. Identity "" = the caller. Asking about another identity
// needs admin.
type PolicyExplain struct {
	Identity string
	Action   string // verb, as in the policy document
	Resource string // topic, group or pattern; "" for verbs without a resource
}

// Decision answers PolicyExplain.
type Decision struct {
	Allow   bool
	Rule    string
	Line    uint64
	Version uint64
	Reason  string
}

// RevocationKind says what a revocation names.
type RevocationKind uint8

// Revocation kinds.
const (
	RevokeIdentity RevocationKind = 1 // Value = principal
	RevokeSPKI     RevocationKind = 2 // Value = hex SHA-256 of the SubjectPublicKeyInfo
	RevokeSerial   RevocationKind = 3 // Value = serial, lower-case hex; Issuer = RFC 2253 name
)

// Revocation is one entry of the revocation list.
type Revocation struct {
	What   RevocationKind
	Value  string
	Issuer string
	Reason string
	ByWhom string // set by the broker
	AtMs   int64  // set by the broker
}

// Revoke adds or removes an entry; both are idempotent.
type Revoke struct {
	Remove bool
	Force  bool // allow revoking the caller itself
	Entry  Revocation
}

// RevokeList asks for the entries behind the first Skip, in a fixed order.
type RevokeList struct {
	After uint64
	Skip  uint32
}

// Revocations answers RevokeList. More is set when the list goes on.
type Revocations struct {
	Entries []Revocation
	More    bool
}

// WhoAmI asks how the broker sees this connection.
type WhoAmI struct{}

// Right is one line of what a principal may do.
type Right struct {
	Allow   bool
	Verb    string
	Pattern string
	Rule    string
	Line    uint64
}

// Identity answers WhoAmI.
type Identity struct {
	Principal   string
	Serial      string // lower-case hex
	Issuer      string
	SPKI        string // hex SHA-256
	NotAfterMs  int64
	TLSVersion  string
	Cipher      string
	Group       string // key-exchange group
	PostQuantum bool
	Resumed     bool
	PolicyVer   uint64
	Rights      []Right
	Node        string
	RemoteAddr  string
}

// SnapshotOpen asks for a copy of everything stored as of now. It is answered once the copy can be read, which may take
// seconds.
type SnapshotOpen struct{}

// Snapshot answers SnapshotOpen.
type Snapshot struct {
	Token   uint64 // names the snapshot on this connection
	Index   uint64 // raft index: everything up to it is in the snapshot
	Records uint64
	Bytes   uint64 // of stored batches; the stream is somewhat longer
}

// SnapshotRead asks for the next part of the stream.
type SnapshotRead struct {
	Token  uint64
	Offset uint64 // where the last part ended: the stream is read once, from front to back
	Max    uint32 // bytes wanted; the broker may send fewer
}

// SnapshotData answers SnapshotRead.
type SnapshotData struct {
	Last bool   // nothing follows
	Data []byte // empty only if Last
}

// SnapshotClose ends a snapshot; one that is gone is no error.
type SnapshotClose struct{ Token uint64 }
