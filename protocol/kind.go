package protocol

// Kind says what a frame is. It is the first element of every frame.
type Kind uint8

// Kinds. Requests are answered by the kind in brackets, or by KindError with the
// same request id.
const (
	KindHello   Kind = 1 // client: first frame (KindWelcome | KindRefused)
	KindWelcome Kind = 2
	KindRefused Kind = 3
	KindError   Kind = 4
	KindEvent   Kind = 5 // broker, unasked; request id 0
	KindPing    Kind = 6 // either side (KindPong)
	KindPong    Kind = 7
	KindOK      Kind = 8 // answer of requests that carry nothing back but the applied index

	KindPublish   Kind = 16 // (KindPublished)
	KindPublished Kind = 17

	KindSubscribe   Kind = 24 // (KindSubscribed)
	KindSubscribed  Kind = 25
	KindDeliver     Kind = 26 // broker, request id 0
	KindCredit      Kind = 27 // client, no answer, request id 0
	KindUnsubscribe Kind = 28 // (KindOK)

	KindTopicCreate Kind = 32 // (KindTopic)
	KindTopicGet    Kind = 33 // (KindTopic)
	KindTopicList   Kind = 34 // (KindTopics)
	KindTopicAlter  Kind = 35 // (KindTopic)
	KindTopicDelete Kind = 36 // (KindOK)
	KindTopic       Kind = 37
	KindTopics      Kind = 38

	KindGroupCreate Kind = 40 // (KindGroup)
	KindGroupGet    Kind = 41 // (KindGroup)
	KindGroupList   Kind = 42 // (KindGroups)
	KindGroupPause  Kind = 43 // (KindGroup)
	KindGroupDelete Kind = 44 // (KindOK)
	KindGroup       Kind = 45
	KindGroups      Kind = 46

	KindPolicyGet     Kind = 48 // (KindPolicy)
	KindPolicyApply   Kind = 49 // (KindPolicy)
	KindPolicyExplain Kind = 50 // (KindDecision)
	KindPolicy        Kind = 51
	KindDecision      Kind = 52

	KindRevoke      Kind = 56 // add or remove (KindOK)
	KindRevokeList  Kind = 57 // (KindRevocations)
	KindRevocations Kind = 58

	KindWhoAmI   Kind = 64 // (KindIdentity)
	KindIdentity Kind = 65

	KindStorageStatus   Kind = 72 // (KindStorage)
	KindStorage         Kind = 73
	KindStorageExtents  Kind = 74 // (KindExtents)
	KindExtents         Kind = 75
	KindStorageVerify   Kind = 76 // (KindStorageVerified)
	KindStorageVerified Kind = 77
	KindStorageScrub    Kind = 78 // (KindStorageScrubbed)
	KindStorageScrubbed Kind = 79

	KindSnapshotOpen  Kind = 80 // (KindSnapshot)
	KindSnapshot      Kind = 81
	KindSnapshotRead  Kind = 82 // (KindSnapshotData)
	KindSnapshotData  Kind = 83
	KindSnapshotClose Kind = 84 // (KindOK)

	KindConsume Kind = 88 // (KindOK)
	KindLeased  Kind = 89 // broker, request id 0
	KindSettle  Kind = 90 // (KindSettled)
	KindSettled Kind = 91

	KindClusterStatus  Kind = 96 // (KindCluster)
	KindCluster        Kind = 97
	KindMemberJoin     Kind = 98  // (KindOK)
	KindMemberRemove   Kind = 99  // (KindOK)
	KindLeaderTransfer Kind = 100 // (KindOK)

	KindPeerHello   Kind = 112 // node: first frame of a link (KindPeerWelcome | KindRefused)
	KindPeerWelcome Kind = 113
	KindForward     Kind = 114 // node: commands for the leader (KindForwarded, one or more)
	KindForwarded   Kind = 115

	KindNodeStatus   Kind = 116 // node, on a link of purpose control (KindNodeState)
	KindNodeState    Kind = 117
	KindMemberChange Kind = 118 // node, on a link of purpose control (KindOK)

	KindReadIndex Kind = 119 // node, on a link of purpose read (KindOK)

	KindSegmentRead Kind = 120 // node, on a link of purpose segments (KindSegmentData)
	KindSegmentData Kind = 121
)
