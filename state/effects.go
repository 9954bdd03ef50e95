package state

import "github.com/waxwing-mq/waxwing/topic"

// Result is the answer to one command.
type Result struct {
	Status      Status
	Created     bool              // create: this command made the topic
	Offset      topic.Offset      // publish: of the first record
	TimeMs      int64             // publish: append time, unix ms
	Incarnation topic.Incarnation // of the topic that the command met
	Version     uint64            // policy or revocation version after the command
	Text        string            // why not, when Status is not done
	Topic       *Topic            // create and alter: the topic as it is now; read-only
}

// Append is one stored batch for storage, which takes ownership of Raw.
type Append struct {
	Partition topic.PartitionID
	Base      topic.Offset
	Count     uint32
	TimeMs    int64
	Raw       []byte // as batch.Append writes it
}

// Change tells what the applied entries touched, so that watchers look only there.
type Change uint8

// Changes, as bits.
const (
	ChangedTopics Change = 1 << iota
	ChangedPolicy
	ChangedRevocations
	ChangedMembers
	ChangedTickets
	ChangedGroups // made, altered, reset or removed; settlements are not told
)

// Effects collects what Apply did. Results stand in the order of the commands, Appends
// in the order of the log. Apply adds; the owner empties it with Reset.
type Effects struct {
	Results []Result
	Appends []Append
	Dropped []topic.PartitionID // partitions that are gone: their records may be deleted
	Trimmed []Cut               // partitions whose first readable offset rose
	Rotated bool                // the active segment ends behind this entry
	Change  Change
}

// Reset empties e for the next use and keeps its memory.
func (e *Effects) Reset() {
	clear(e.Results)
	clear(e.Appends)
	e.Results, e.Appends, e.Dropped, e.Change = e.Results[:0], e.Appends[:0], e.Dropped[:0], 0
	e.Trimmed, e.Rotated = e.Trimmed[:0], false
}
