package protocol

// Code is the reason of an ERROR or REFUSED frame. Values are stable for ever;
// each has a page in docs/errors.md.
type Code uint16

// Codes.
const (
	CodeInternal       Code = 1  // unexpected; carries an incident id, details are in the broker's log
	CodeMalformed      Code = 2  // the frame or a field is not what PROTOCOL.md says; the connection ends
	CodeUnsupported    Code = 3  // unknown kind, version or feature
	CodeInvalid        Code = 4  // a well-formed request that makes no sense (bad name, bad option)
	CodeTooLarge       Code = 5  // a size limit; the text names limit and value
	CodeLimit          Code = 6  // a count limit or quota; the text names limit and value
	CodeIdentity       Code = 7  // the certificate maps to no identity, or not to one this port serves
	CodeRevoked        Code = 8  // identity, key or serial is revoked
	CodeDenied         Code = 9  // policy says no; Rule, Line and PolicyVersion say which rule
	CodeNotFound       Code = 10 // no such topic, subscription or entry
	CodeExists         Code = 11 // already there, with other properties
	CodeRecreated      Code = 12 // TOPIC_RECREATED: the topic has another incarnation
	CodeSequence       Code = 13 // producer sequence out of order or out of the window
	CodeFenced         Code = 14 // a higher producer epoch exists
	CodeConflict       Code = 15 // compare-and-set failed; the text names the current version
	CodePolicyInvalid  Code = 16 // the policy does not compile or its tests fail
	CodeLockout        Code = 17 // the change would remove the caller's or the last admin; force to go on
	CodeFull           Code = 18 // disk guard: publishes are refused until space returns
	CodeOverloaded     Code = 19 // queues are full; try again later
	CodeNotLeader      Code = 20 // refused before dispatch; nothing was written
	CodeNoQuorum       Code = 21 // no contact to a leader
	CodeNotCaughtUp    Code = 22 // this node has not applied the asked index in time
	CodeUnknownOutcome Code = 23 // the write may appear once, or never
	CodeCorrupt        Code = 24 // stored data is damaged; nothing was skipped
	CodeTrimmed        Code = 25 // the offset is below the partition's low offset
	CodeOutOfRange     Code = 26 // the offset is beyond the end
	CodeShutdown       Code = 27 // the node is stopping
	CodeExpired        Code = 28 // the connection's certificate has expired
	CodeTimeout        Code = 29 // the broker gave up waiting; nothing was written
	CodeNotMember      Code = 30 // a node that is not a member of this cluster
	CodeWrongCluster   Code = 31 // a node of another cluster
	CodeWrongNode      Code = 32 // a node that calls itself, or calls the other end, by the wrong name
	CodeStale          Code = 33 // forwarded, and judged under an older policy or revocation list than the leader has
)

// Outcome says what became of a write (DESIGN section 4).
type Outcome uint8

// Outcomes.
const (
	OutcomeNone     Outcome = 0 // the request was not a write
	OutcomeRejected Outcome = 1 // it will never appear
	OutcomeUnknown  Outcome = 2 // it may appear once, or never
)
