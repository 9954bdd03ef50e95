package state

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/topic"
)

func (m *Machine) onCreateTopic(c *CreateTopic, e *Effects) Result {
	if _, err := topic.ParseName(string(c.Name)); err != nil {
		return Result{Status: StatusInvalid, Text: err.Error()}
	}
	spec := c.Spec
	spec.Partitions = max(spec.Partitions, 1)
	if t, ok := m.next.Topic(c.Name); ok {
		return existing(t, spec, c.IfNotExists)
	}
	if r, ok := m.room(1, c.TopicsMax, spec.Partitions, c.PartitionsMax, spec.Partitions); !ok {
		return r
	}
	t := &Topic{
		Name:        c.Name,
		Incarnation: m.next.nextIncarnation,
		CreatedMs:   m.next.timeMs,
		CreatedBy:   c.By,
		Spec:        spec,
	}
	m.next.nextIncarnation++
	m.grow(t)
	m.setTopic(t, e)
	m.next.generation++
	return Result{Status: StatusOK, Created: true, Incarnation: t.Incarnation, Topic: t}
}

// existing answers the creation of a topic that is there.
func existing(t *Topic, want Spec, ifNotExists bool) Result {
	r := Result{Status: StatusOK, Incarnation: t.Incarnation, Topic: t}
	if !ifNotExists && t.Spec != want {
		r.Status = StatusExists
		r.Text = fmt.Sprintf("topic %s exists with other settings; alter it, or create it only if it does not exist", t.Name)
	}
	return r
}

// onAlterTopic applies the fields in the mask to a copy of the topic.
func (m *Machine) onAlterTopic(c *AlterTopic, e *Effects) Result {
	old, r, ok := m.lookup(c.Name, c.Incarnation)
	if !ok {
		return r
	}
	t := *old
	t.Spec = c.merge(old.Spec)
	have := uint32(len(old.Partitions))
	if t.Spec.Partitions < have {
		r.Status = StatusInvalid
		r.Text = fmt.Sprintf("topic %s has %d partitions; they can grow, not shrink to %d", t.Name, have, t.Spec.Partitions)
		return r
	}
	if t.Spec == old.Spec {
		r.Topic = old
		return r
	}
	if t.Spec.Partitions > have {
		if r, ok := m.room(0, 0, t.Spec.Partitions-have, c.PartitionsMax, t.Spec.Partitions); !ok {
			return r
		}
		m.grow(&t)
		m.next.generation++
	}
	m.setTopic(&t, e)
	r.Topic = &t
	return r
}

// merge is old with the fields in the mask replaced.
func (c *AlterTopic) merge(old Spec) Spec {
	if c.Mask&AlterPartitions != 0 {
		old.Partitions = c.Spec.Partitions
	}
	if c.Mask&AlterMaxAge != 0 {
		old.MaxAgeMs = c.Spec.MaxAgeMs
	}
	if c.Mask&AlterMaxBytes != 0 {
		old.MaxBytes = c.Spec.MaxBytes
	}
	if c.Mask&AlterMaxRecords != 0 {
		old.MaxRecords = c.Spec.MaxRecords
	}
	return old
}

func (m *Machine) onDeleteTopic(c *DeleteTopic, e *Effects) Result {
	t, r, ok := m.lookup(c.Name, c.Incarnation)
	if !ok {
		return r
	}
	m.next.topics, _, _ = m.next.topics.Delete([]byte(t.Name))
	m.flushCursors()
	txn, cursors := m.next.parts.Txn(), m.next.cursors.Txn()
	for _, id := range t.Partitions {
		m.producers.dropPartition(m.parts[id])
		delete(m.parts, id)
		txn.Delete(partitionKey(id))
		cursors.DeletePrefix(partitionKey(id)) // whatever groups know of it
	}
	m.next.parts, m.next.cursors = txn.CommitOnly(), cursors.CommitOnly()
	m.next.generation++
	e.Dropped = append(e.Dropped, t.Partitions...)
	e.Change |= ChangedTopics
	return r
}

// lookup finds the topic that a command means. Without ok, r is the answer; with it, r
// is an OK to build on.
func (m *Machine) lookup(name topic.Name, want topic.Incarnation) (t *Topic, r Result, ok bool) {
	t, ok = m.next.Topic(name)
	if !ok {
		return nil, Result{Status: StatusNotFound, Text: fmt.Sprintf("no topic %q", name)}, false
	}
	r.Incarnation = t.Incarnation
	if want != 0 && want != t.Incarnation {
		r.Status = StatusRecreated
		r.Text = fmt.Sprintf("topic %s was deleted and created anew", name)
		return nil, r, false
	}
	return t, r, true
}

// room checks the limits before topics and partitions are added. perTopic is what one
// topic would then have. The tighter of the proposer's limit and ours counts.
func (m *Machine) room(topics int, topicsMax uint64, partitions uint32, partitionsMax uint64, perTopic uint32) (Result, bool) {
	full := func(what string, limit int) (Result, bool) {
		return Result{Status: StatusLimit, Text: fmt.Sprintf("limit reached: at most %d %s", limit, what)}, false
	}
	if limit := tighter(m.limits.Topics, topicsMax); topics > 0 && m.next.TopicCount()+topics > limit {
		return full("topics", limit)
	}
	if int64(perTopic) > int64(m.limits.TopicPartitions) {
		return full("partitions in a topic", m.limits.TopicPartitions)
	}
	if limit := tighter(m.limits.Partitions, partitionsMax); int64(len(m.parts))+int64(partitions) > int64(limit) {
		return full("partitions in all topics", limit)
	}
	return Result{}, true
}

// tighter is the smaller limit; 0 is none.
func tighter(ours int, theirs uint64) int {
	if theirs == 0 || theirs > uint64(ours) {
		return ours
	}
	return int(theirs)
}

// grow gives t the partitions that its Spec wants and it lacks.
func (m *Machine) grow(t *Topic) {
	ids := make([]topic.PartitionID, len(t.Partitions), t.Spec.Partitions)
	copy(ids, t.Partitions)
	txn := m.next.parts.Txn()
	for uint32(len(ids)) < t.Spec.Partitions {
		part := &partition{
			id:          m.next.nextPartition,
			incarnation: t.Incarnation,
			name:        t.Name,
			index:       uint32(len(ids)),
			producers:   map[*producer]struct{}{},
		}
		m.next.nextPartition++
		m.parts[part.id] = part
		txn.Insert(partitionKey(part.id), part.snapshot())
		ids = append(ids, part.id)
	}
	m.next.parts = txn.CommitOnly()
	t.Partitions = ids
}

// setTopic puts t into the catalog.
func (m *Machine) setTopic(t *Topic, e *Effects) {
	m.next.topics, _, _ = m.next.topics.Insert([]byte(t.Name), t)
	e.Change |= ChangedTopics
}
