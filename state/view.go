package state

import (
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/topic"
)

// View is the state as of one raft index. It is immutable: keep it as long as you
// like, read it from any goroutine, change nothing that it returns.
type View struct {
	applied         uint64
	timeMs          int64
	clusterID       string
	generation      uint64
	segment         uint64
	nextPartition   topic.PartitionID
	nextIncarnation topic.Incarnation
	topics          *iradix.Tree[*Topic]
	parts           *iradix.Tree[*Partition]
	policy          PolicyDoc
	revocations     *iradix.Tree[Revocation]
	revVersion      uint64
	members         *iradix.Tree[Member]
	ticketNumber    uint64
	nextGroup       GroupID
	groups          *iradix.Tree[*Group]
	cursors         *iradix.Tree[*Cursor] // by cursorKey; a group has none where it never was
	tickets         []TicketKey           // newest first; never changed in place
}

// Partition is one partition and its readable range [Low, Next).
type Partition struct {
	ID          topic.PartitionID
	Topic       topic.Name
	Incarnation topic.Incarnation
	Index       uint32       // its number in the topic, from 0
	Low         topic.Offset // first readable offset
	Next        topic.Offset // offset that the next record gets
}

// Applied is the raft index of the last applied entry.
func (v *View) Applied() uint64 { return v.applied }

// TimeMs is the log time: the highest stamp so far, unix ms.
func (v *View) TimeMs() int64 { return v.timeMs }

// ClusterID is the id that Init set, or "".
func (v *View) ClusterID() string { return v.clusterID }

// Generation changes whenever a topic or partition is born or dies.
func (v *View) Generation() uint64 { return v.generation }

// NextIncarnation is what the next topic will get. All that there were have lower ones.
func (v *View) NextIncarnation() topic.Incarnation { return v.nextIncarnation }

// Segment is the number of the active segment of the log, from 1.
func (v *View) Segment() uint64 { return v.segment }

// Topic looks a topic up by name.
func (v *View) Topic(name topic.Name) (*Topic, bool) { return v.topics.Get([]byte(name)) }

// TopicCount is the number of topics.
func (v *View) TopicCount() int { return v.topics.Len() }

// PartitionCount is the number of partitions of all topics.
func (v *View) PartitionCount() int { return v.parts.Len() }

// Topics yields the topics behind the name from (exclusive; "" = all), in the order of
// the names' bytes, until yield returns false.
func (v *View) Topics(from string, yield func(*Topic) bool) {
	it := v.topics.Root().Iterator()
	it.SeekLowerBound([]byte(from))
	for key, t, ok := it.Next(); ok; key, t, ok = it.Next() {
		if string(key) != from && !yield(t) {
			return
		}
	}
}

// Partition looks a partition up by id.
func (v *View) Partition(id topic.PartitionID) (Partition, bool) {
	p, ok := v.parts.Get(partitionKey(id))
	if !ok {
		return Partition{}, false
	}
	return *p, true
}

// Partitions yields every partition, by id.
func (v *View) Partitions() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		v.parts.Root().Walk(func(_ []byte, p *Partition) bool { return !yield(p) })
	}
}

// Policy is the current policy document; Version 0 means that none was ever set.
func (v *View) Policy() PolicyDoc { return v.policy }

// RevocationVersion grows with every change of the revocation list.
func (v *View) RevocationVersion() uint64 { return v.revVersion }

// Revocations lists the revocation list, sorted by kind, issuer and value. The slice is the caller's.
func (v *View) Revocations() []Revocation {
	list := make([]Revocation, 0, v.revocations.Len())
	it := v.revocations.Root().Iterator()
	for _, r, ok := it.Next(); ok; _, r, ok = it.Next() {
		list = append(list, r)
	}
	return list
}
