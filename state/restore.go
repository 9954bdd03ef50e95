package state

import (
	"errors"
	"fmt"
	"iter"
	"math"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// ErrCheckpoint is wrapped by every error about a checkpoint that is damaged.
var ErrCheckpoint = errors.New("the checkpoint is damaged")

// restorer builds a machine from chunks.
type restorer struct {
	m     *Machine
	want  struct{ topics, parts, revocations, producers, windows, members uint64 }
	kind  chunkKind // of the last chunk
	count uint64    // chunks so far

	topics      *iradix.Txn[*Topic]
	revocations *iradix.Txn[Revocation]
	members     *iradix.Txn[Member]
	homes       map[topic.PartitionID]*partition // of partitions that a topic lists and that were not described yet
	lastName    string
	lastID      topic.PartitionID
	lastKey     string
	lastNode    string
	tickets     *restoredTickets // nil = none yet
	groups      *restoredGroups  // nil = none yet
	cursors     *iradix.Txn[*Cursor]
	producer    *producer
	ended       bool
}

// Restore makes a machine from the chunks of a checkpoint. It believes nothing: what is malformed, missing, out of
// order, or does not fit together is an error that wraps ErrCheckpoint, or ErrVersion if a newer program wrote it.
func Restore(l Limits, chunks iter.Seq2[[]byte, error]) (*Machine, error) {
	r := &restorer{m: New(l), homes: map[topic.PartitionID]*partition{}}
	r.topics, r.revocations, r.members = r.m.next.topics.Txn(), r.m.next.revocations.Txn(), r.m.next.members.Txn()
	r.cursors = r.m.next.cursors.Txn()
	for b, err := range chunks {
		if err != nil {
			return nil, err
		}
		if err := r.chunk(b); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", r.count, err)
		}
		r.count++
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	r.m.publishView()
	return r.m, nil
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCheckpoint, fmt.Errorf(format, args...))
}

// chunk takes the next one.
func (r *restorer) chunk(b []byte) error {
	if len(b) < 2 {
		return broken("%d bytes", len(b))
	}
	if b[0] != checkpointVersion {
		return versionError("checkpoint", b[0])
	}
	k := chunkKind(b[1])
	if r.ended || !follows(k, r.kind) {
		return broken("kind %d behind kind %d", k, r.kind)
	}
	r.kind = k
	c := codec.NewCursor(b[2:])
	items := 0
	for c.More() {
		if err := r.item(&c); err != nil {
			return err
		}
		if err := c.Err(); err != nil {
			return broken("kind %d, item %d: %w", k, items, err)
		}
		items++
	}
	if single := k == chunkHead || k == chunkPolicy || k == chunkEnd; single && items != 1 || (k == chunkTickets || k == chunkGroups) && items == 0 {
		return broken("kind %d with %d items", k, items)
	}
	return nil
}

// follows says whether a chunk of kind k may stand behind one of kind last.
func follows(k, last chunkKind) bool {
	switch {
	case k == chunkMembers:
		return last == chunkProducers || last == chunkMembers
	case k == chunkTickets:
		return last == chunkProducers || last == chunkMembers
	case k == chunkGroups:
		return last == chunkProducers || last == chunkMembers || last == chunkTickets || last == chunkGroups
	case k == chunkEnd:
		return last == chunkProducers || last == chunkMembers || last == chunkTickets || last == chunkGroups
	case k == last:
		return k >= chunkTopics && k <= chunkProducers
	}
	return k == last+1 && k <= chunkProducers
}

func (r *restorer) item(c *codec.Cursor) error {
	switch r.kind {
	case chunkHead:
		return r.head(c)
	case chunkPolicy:
		return r.policy(c)
	case chunkTopics:
		return r.topic(c)
	case chunkPartitions:
		return r.partition(c)
	case chunkRevocations:
		return r.revocation(c)
	case chunkProducers:
		return r.ofProducer(c)
	case chunkMembers:
		return r.member(c)
	case chunkTickets:
		return r.ticket(c)
	case chunkGroups:
		return r.group(c)
	case chunkEnd:
		return r.last(c)
	}
	return broken("kind %d is unknown", r.kind)
}

// fields opens an item of n fields.
func fieldsOf(c *codec.Cursor, n int) bool {
	if c.Array(n) != n {
		c.Fail(codec.ErrCount)
	}
	return c.Err() == nil
}

func (r *restorer) head(c *codec.Cursor) error {
	if !fieldsOf(c, headItemFields) {
		return nil
	}
	v := &r.m.next
	v.applied, v.timeMs, v.generation = c.Uint(), int64(c.UintMax(timeMsMax)), c.Uint()
	v.nextPartition, v.nextIncarnation = topic.PartitionID(c.Uint()), topic.Incarnation(c.Uint())
	v.segment, v.revVersion = c.Uint(), c.Uint()
	r.want.topics, r.want.parts, r.want.revocations, r.want.producers, r.want.windows = c.Uint(), c.Uint(), c.Uint(), c.Uint(), c.Uint()
	r.want.members = c.UintMax(membersMax)
	v.clusterID = string(c.Str(clusterIDBytesMax))
	if c.Err() == nil && (v.segment == 0 || v.applied == 0) {
		return broken("entry %d, segment %d", v.applied, v.segment)
	}
	return nil
}

func (r *restorer) policy(c *codec.Cursor) error {
	if !fieldsOf(c, policyItemFields) {
		return nil
	}
	p := PolicyDoc{Version: c.Uint(), AtMs: int64(c.UintMax(timeMsMax)), By: string(c.Str(principalBytesMax))}
	p.Document = append([]byte(nil), c.Bin(r.m.limits.PolicyBytes)...)
	r.m.next.policy = p
	return nil
}

// readTopic reads the fields of a topic behind their count.
func readTopic(c *codec.Cursor, partitionsMax int) *Topic {
	t := &Topic{Name: topic.Name(c.Str(topic.MaxBytes)), Incarnation: topic.Incarnation(c.Uint()), CreatedMs: int64(c.UintMax(timeMsMax)), CreatedBy: string(c.Str(principalBytesMax))}
	t.Spec = Spec{Partitions: uint32(c.UintMax(math.MaxUint32)), MaxAgeMs: c.Uint(), MaxBytes: c.Uint(), MaxRecords: c.Uint()}
	n := c.Array(partitionsMax)
	t.Partitions = make([]topic.PartitionID, 0, n)
	for range n {
		t.Partitions = append(t.Partitions, topic.PartitionID(c.Uint()))
	}
	return t
}

// topic adds a topic and makes its partitions, to be described later.
func (r *restorer) topic(c *codec.Cursor) error {
	if !fieldsOf(c, topicItemFields) {
		return nil
	}
	t := readTopic(c, r.m.limits.TopicPartitions)
	n := len(t.Partitions)
	if c.Err() != nil {
		return nil
	}
	if _, err := topic.ParseName(string(t.Name)); err != nil {
		return broken("%w", err)
	}
	switch {
	case string(t.Name) <= r.lastName:
		return broken("topic %q behind %q", t.Name, r.lastName)
	case uint32(n) != t.Spec.Partitions || n == 0:
		return broken("topic %q has %d partitions and settings for %d", t.Name, n, t.Spec.Partitions)
	case t.Incarnation == 0 || t.Incarnation >= r.m.next.nextIncarnation:
		return broken("topic %q has incarnation %d, the next is %d", t.Name, t.Incarnation, r.m.next.nextIncarnation)
	}
	r.lastName = string(t.Name)
	r.topics.Insert([]byte(t.Name), t)
	for i, id := range t.Partitions {
		if id == 0 || id >= r.m.next.nextPartition || r.homes[id] != nil {
			return broken("topic %q lists partition %d, which is another's or was never made", t.Name, id)
		}
		r.homes[id] = &partition{id: id, incarnation: t.Incarnation, name: t.Name, index: uint32(i), producers: map[*producer]struct{}{}}
	}
	return nil
}

func (r *restorer) partition(c *codec.Cursor) error {
	if !fieldsOf(c, partitionItemFields) {
		return nil
	}
	id, low, next := topic.PartitionID(c.Uint()), topic.Offset(c.UintMax(math.MaxInt64)), topic.Offset(c.UintMax(math.MaxInt64))
	if c.Err() != nil {
		return nil
	}
	part := r.homes[id]
	if part == nil || id <= r.lastID || low > next {
		return broken("partition %d from %d to %d, behind partition %d: it has no topic, or its place is wrong", id, low, next, r.lastID)
	}
	r.lastID = id
	part.low, part.next = low, next
	r.m.parts[id] = part
	return nil
}

func (r *restorer) revocation(c *codec.Cursor) error {
	if !fieldsOf(c, revocationFields) {
		return nil
	}
	v := Revocation{Kind: RevocationKind(c.UintMax(math.MaxUint8)), Value: string(c.Str(principalBytesMax)), Issuer: string(c.Str(issuerBytesMax)),
		Reason: string(c.Str(reasonBytesMax)), By: string(c.Str(principalBytesMax)), AtMs: int64(c.UintMax(timeMsMax))}
	if c.Err() != nil {
		return nil
	}
	key := v.key()
	if reason := v.fault(); reason != "" || string(key) <= r.lastKey {
		return broken("revocation of %q: %s; or it is out of order", v.Value, reason)
	}
	r.lastKey = string(key)
	r.revocations.Insert(key, v)
	return nil
}

// ofProducer takes a producer or a window of the last one.
func (r *restorer) ofProducer(c *codec.Cursor) error {
	n := c.Array(windowItemFields)
	switch tag := c.UintMax(windowTag); {
	case c.Err() != nil:
		return nil
	case tag == producerTag && n == producerItemFields:
		return r.newProducer(c)
	case tag == windowTag && n == windowItemFields:
		return r.window(c)
	}
	c.Fail(codec.ErrCount)
	return nil
}

func (r *restorer) newProducer(c *codec.Cursor) error {
	key := producerKey{principal: string(c.Str(principalBytesMax))}
	c.Fixed(key.id[:])
	usedMs := int64(c.UintMax(timeMsMax))
	if c.Err() != nil {
		return nil
	}
	ps := r.m.producers
	if key.principal == "" || ps.byKey[key] != nil || uint64(len(ps.byKey)) >= r.want.producers {
		return broken("producer %x of %q stands there twice, or is one too many", key.id, key.principal)
	}
	r.producer = ps.link(key)
	r.producer.usedMs = usedMs
	return nil
}

func (r *restorer) window(c *codec.Cursor) error {
	id := topic.PartitionID(c.Uint())
	w := &window{epoch: c.Uint(), next: c.Uint()}
	n := c.Array(3 * WindowBatches)
	for range n / 3 {
		w.ring = append(w.ring, sent{offset: topic.Offset(c.UintMax(math.MaxInt64)), timeMs: int64(c.UintMax(timeMsMax)), count: uint32(c.UintMax(countMax))})
	}
	if c.Err() != nil {
		return nil
	}
	part := r.m.parts[id]
	if part == nil || r.producer == nil || r.producer.windows[part] != nil || n%3 != 0 || n == 0 {
		return broken("a window on partition %d has no partition, no producer, or stands there twice", id)
	}
	r.producer.windows[part] = w
	part.producers[r.producer] = struct{}{}
	r.m.producers.windows++
	return nil
}

func (r *restorer) member(c *codec.Cursor) error {
	if !fieldsOf(c, memberItemFields) {
		return nil
	}
	m := readMemberFields(c)
	m.AtMs, m.Removed = int64(c.UintMax(timeMsMax)), c.Bool()
	if c.Err() != nil {
		return nil
	}
	if m.Node <= r.lastNode {
		return broken("node %q behind %q", m.Node, r.lastNode)
	}
	r.lastNode = m.Node
	r.members.Insert([]byte(m.Node), m)
	return nil
}

func (r *restorer) last(c *codec.Cursor) error {
	if fieldsOf(c, 1) && c.Uint() != r.count {
		return broken("it is the end of another number of chunks")
	}
	r.ended = true
	return nil
}

// end compares the counts and builds the trees.
func (r *restorer) end() error {
	if !r.ended {
		return broken("it ends after %d chunks, in kind %d", r.count, r.kind)
	}
	if err := r.tickets.end(); err != nil {
		return err
	}
	if err := r.groups.end(); err != nil {
		return err
	}
	v := &r.m.next
	v.cursors = r.cursors.CommitOnly()
	v.topics, v.revocations, v.members = r.topics.CommitOnly(), r.revocations.CommitOnly(), r.members.CommitOnly()
	parts := v.parts.Txn()
	for id, part := range r.m.parts {
		parts.Insert(partitionKey(id), part.snapshot())
	}
	v.parts = parts.CommitOnly()
	ps := r.m.producers
	for _, count := range []struct {
		what      string
		got, want uint64
	}{
		{"topics", uint64(v.topics.Len()), r.want.topics}, {"partitions", uint64(len(r.m.parts)), r.want.parts}, {"partitions of topics", uint64(len(r.homes)), r.want.parts},
		{"revocations", uint64(v.revocations.Len()), r.want.revocations}, {"producers", uint64(len(ps.byKey)), r.want.producers}, {"windows", uint64(ps.windows), r.want.windows},
		{"nodes", uint64(v.members.Len()), r.want.members},
	} {
		if count.got != count.want {
			return broken("%d %s, should be %d", count.got, count.what, count.want)
		}
	}
	return nil
}
