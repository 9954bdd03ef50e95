package protocol

import "strconv"

// kinds makes an empty message of each kind, and names it.
var kinds = [...]struct {
	name string
	make func() Message
}{
	KindHello:         {"HELLO", func() Message { return new(Hello) }},
	KindWelcome:       {"WELCOME", func() Message { return new(Welcome) }},
	KindRefused:       {"REFUSED", func() Message { return new(Refused) }},
	KindError:         {"ERROR", func() Message { return new(Error) }},
	KindEvent:         {"EVENT", func() Message { return new(Event) }},
	KindPing:          {"PING", func() Message { return new(Ping) }},
	KindPong:          {"PONG", func() Message { return new(Pong) }},
	KindOK:            {"OK", func() Message { return new(OK) }},
	KindPublish:       {"PUBLISH", func() Message { return new(Publish) }},
	KindPublished:     {"PUBLISHED", func() Message { return new(Published) }},
	KindSubscribe:     {"SUBSCRIBE", func() Message { return new(Subscribe) }},
	KindSubscribed:    {"SUBSCRIBED", func() Message { return new(Subscribed) }},
	KindDeliver:       {"DELIVER", func() Message { return new(Deliver) }},
	KindCredit:        {"CREDIT", func() Message { return new(Credit) }},
	KindUnsubscribe:   {"UNSUBSCRIBE", func() Message { return new(Unsubscribe) }},
	KindTopicCreate:   {"TOPIC_CREATE", func() Message { return new(TopicCreate) }},
	KindTopicGet:      {"TOPIC_GET", func() Message { return new(TopicGet) }},
	KindTopicList:     {"TOPIC_LIST", func() Message { return new(TopicList) }},
	KindTopicAlter:    {"TOPIC_ALTER", func() Message { return new(TopicAlter) }},
	KindTopicDelete:   {"TOPIC_DELETE", func() Message { return new(TopicDelete) }},
	KindTopic:         {"TOPIC", func() Message { return new(Topic) }},
	KindTopics:        {"TOPICS", func() Message { return new(Topics) }},
	KindPolicyGet:     {"POLICY_GET", func() Message { return new(PolicyGet) }},
	KindPolicyApply:   {"POLICY_APPLY", func() Message { return new(PolicyApply) }},
	KindPolicyExplain: {"POLICY_EXPLAIN", func() Message { return new(PolicyExplain) }},
	KindPolicy:        {"POLICY", func() Message { return new(Policy) }},
	KindDecision:      {"DECISION", func() Message { return new(Decision) }},
	KindRevoke:        {"REVOKE", func() Message { return new(Revoke) }},
	KindRevokeList:    {"REVOKE_LIST", func() Message { return new(RevokeList) }},
	KindRevocations:   {"REVOCATIONS", func() Message { return new(Revocations) }},
	KindWhoAmI:        {"WHOAMI", func() Message { return new(WhoAmI) }},
	KindIdentity:      {"IDENTITY", func() Message { return new(Identity) }},

	KindStorageStatus:   {"STORAGE_STATUS", func() Message { return new(StorageStatus) }},
	KindStorage:         {"STORAGE", func() Message { return new(Storage) }},
	KindStorageExtents:  {"STORAGE_EXTENTS", func() Message { return new(StorageExtents) }},
	KindExtents:         {"EXTENTS", func() Message { return new(Extents) }},
	KindStorageVerify:   {"STORAGE_VERIFY", func() Message { return new(StorageVerify) }},
	KindStorageVerified: {"STORAGE_VERIFIED", func() Message { return new(StorageVerified) }},
	KindStorageScrub:    {"STORAGE_SCRUB", func() Message { return new(StorageScrub) }},
	KindStorageScrubbed: {"STORAGE_SCRUBBED", func() Message { return new(StorageScrubbed) }},

	KindSnapshotOpen:  {"SNAPSHOT_OPEN", func() Message { return new(SnapshotOpen) }},
	KindSnapshot:      {"SNAPSHOT", func() Message { return new(Snapshot) }},
	KindSnapshotRead:  {"SNAPSHOT_READ", func() Message { return new(SnapshotRead) }},
	KindSnapshotData:  {"SNAPSHOT_DATA", func() Message { return new(SnapshotData) }},
	KindSnapshotClose: {"SNAPSHOT_CLOSE", func() Message { return new(SnapshotClose) }},
	KindPeerHello:     {"PEER_HELLO", func() Message { return new(PeerHello) }},
	KindPeerWelcome:   {"PEER_WELCOME", func() Message { return new(PeerWelcome) }},
	KindForward:       {"FORWARD", func() Message { return new(Forward) }},
	KindForwarded:     {"FORWARDED", func() Message { return new(Forwarded) }},

	KindClusterStatus:  {"CLUSTER_STATUS", func() Message { return new(ClusterStatus) }},
	KindCluster:        {"CLUSTER", func() Message { return new(Cluster) }},
	KindMemberJoin:     {"MEMBER_JOIN", func() Message { return new(MemberJoin) }},
	KindMemberRemove:   {"MEMBER_REMOVE", func() Message { return new(MemberRemove) }},
	KindLeaderTransfer: {"LEADER_TRANSFER", func() Message { return new(LeaderTransfer) }},
	KindNodeStatus:     {"NODE_STATUS", func() Message { return new(NodeStatus) }},
	KindNodeState:      {"NODE_STATE", func() Message { return new(NodeState) }},
	KindMemberChange:   {"MEMBER_CHANGE", func() Message { return new(MemberChange) }},
	KindReadIndex:      {"READ_INDEX", func() Message { return new(ReadIndex) }},

	KindGroupCreate: {"GROUP_CREATE", func() Message { return new(GroupCreate) }},
	KindGroupGet:    {"GROUP_GET", func() Message { return new(GroupGet) }},
	KindGroupList:   {"GROUP_LIST", func() Message { return new(GroupList) }},
	KindGroupPause:  {"GROUP_PAUSE", func() Message { return new(GroupPause) }},
	KindGroupDelete: {"GROUP_DELETE", func() Message { return new(GroupDelete) }},
	KindGroup:       {"GROUP", func() Message { return new(ConsumerGroup) }},
	KindGroups:      {"GROUPS", func() Message { return new(ConsumerGroups) }},
	KindConsume:     {"CONSUME", func() Message { return new(Consume) }},
	KindLeased:      {"LEASED", func() Message { return new(Leased) }},
	KindSettle:      {"SETTLE", func() Message { return new(Settle) }},
	KindSettled:     {"SETTLED", func() Message { return new(Settled) }},

	KindSegmentRead: {"SEGMENT_READ", func() Message { return new(SegmentRead) }},
	KindSegmentData: {"SEGMENT_DATA", func() Message { return new(SegmentData) }},
}

// newMessage is nil for a kind that this version does not know.
func newMessage(k Kind) Message {
	if !k.Known() {
		return nil
	}
	return kinds[k].make()
}

// Known reports whether k is a kind of this version.
func (k Kind) Known() bool { return int(k) < len(kinds) && kinds[k].make != nil }

// String is the kind's name in PROTOCOL.md.
func (k Kind) String() string {
	if k.Known() {
		return kinds[k].name
	}
	return "KIND_" + strconv.Itoa(int(k))
}

// Kinds lists every kind of this version, in order.
func Kinds() []Kind {
	var ks []Kind
	for k := range kinds {
		if kinds[k].make != nil {
			ks = append(ks, Kind(k))
		}
	}
	return ks
}

// New makes an empty message of a known kind, or nil.
func New(k Kind) Message { return newMessage(k) }

// Kind implements Message.
func (*Hello) Kind() Kind         { return KindHello }
func (*Welcome) Kind() Kind       { return KindWelcome }
func (*Refused) Kind() Kind       { return KindRefused }
func (*Error) Kind() Kind         { return KindError }
func (*Event) Kind() Kind         { return KindEvent }
func (*Ping) Kind() Kind          { return KindPing }
func (*Pong) Kind() Kind          { return KindPong }
func (*OK) Kind() Kind            { return KindOK }
func (*Publish) Kind() Kind       { return KindPublish }
func (*Published) Kind() Kind     { return KindPublished }
func (*Subscribe) Kind() Kind     { return KindSubscribe }
func (*Subscribed) Kind() Kind    { return KindSubscribed }
func (*Deliver) Kind() Kind       { return KindDeliver }
func (*Credit) Kind() Kind        { return KindCredit }
func (*Unsubscribe) Kind() Kind   { return KindUnsubscribe }
func (*TopicCreate) Kind() Kind   { return KindTopicCreate }
func (*TopicGet) Kind() Kind      { return KindTopicGet }
func (*TopicList) Kind() Kind     { return KindTopicList }
func (*TopicAlter) Kind() Kind    { return KindTopicAlter }
func (*TopicDelete) Kind() Kind   { return KindTopicDelete }
func (*Topic) Kind() Kind         { return KindTopic }
func (*Topics) Kind() Kind        { return KindTopics }
func (*PolicyGet) Kind() Kind     { return KindPolicyGet }
func (*PolicyApply) Kind() Kind   { return KindPolicyApply }
func (*PolicyExplain) Kind() Kind { return KindPolicyExplain }
func (*Policy) Kind() Kind        { return KindPolicy }
func (*Decision) Kind() Kind      { return KindDecision }
func (*Revoke) Kind() Kind        { return KindRevoke }
func (*RevokeList) Kind() Kind    { return KindRevokeList }
func (*Revocations) Kind() Kind   { return KindRevocations }
func (*WhoAmI) Kind() Kind        { return KindWhoAmI }
func (*Identity) Kind() Kind      { return KindIdentity }
func (*SnapshotOpen) Kind() Kind  { return KindSnapshotOpen }
func (*Snapshot) Kind() Kind      { return KindSnapshot }
func (*SnapshotRead) Kind() Kind  { return KindSnapshotRead }
func (*SnapshotData) Kind() Kind  { return KindSnapshotData }
func (*SnapshotClose) Kind() Kind { return KindSnapshotClose }
func (*PeerHello) Kind() Kind     { return KindPeerHello }
func (*PeerWelcome) Kind() Kind   { return KindPeerWelcome }
func (*SegmentRead) Kind() Kind   { return KindSegmentRead }
func (*SegmentData) Kind() Kind   { return KindSegmentData }

// AppendFrame implements Message.
func (m *Hello) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Welcome) AppendFrame(dst []byte, id uint64) []byte       { return appendControl(dst, m, id) }
func (m *Refused) AppendFrame(dst []byte, id uint64) []byte       { return appendControl(dst, m, id) }
func (m *Error) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Event) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Ping) AppendFrame(dst []byte, id uint64) []byte          { return appendControl(dst, m, id) }
func (m *Pong) AppendFrame(dst []byte, id uint64) []byte          { return appendControl(dst, m, id) }
func (m *OK) AppendFrame(dst []byte, id uint64) []byte            { return appendControl(dst, m, id) }
func (m *Subscribe) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *Subscribed) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *Unsubscribe) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *TopicCreate) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *TopicGet) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *TopicList) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *TopicAlter) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *TopicDelete) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *Topic) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Topics) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *PolicyGet) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *PolicyApply) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *PolicyExplain) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
func (m *Policy) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *Decision) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *Revoke) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *RevokeList) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *Revocations) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *WhoAmI) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *Identity) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *SnapshotOpen) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *Snapshot) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *SnapshotRead) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *SnapshotData) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *SnapshotClose) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
func (m *PeerHello) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *PeerWelcome) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *SegmentRead) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *SegmentData) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
