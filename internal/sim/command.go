package sim

import (
	"fmt"
	"math/rand/v2"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// command is one command, encoded, and what the model wants to know of it.
type command struct {
	what    string
	bytes   []byte
	publish *state.Publish
	trim    *state.Trim
	deletes []topic.PartitionID
}

const (
	topics    = 4
	producers = 3
)

func topicName(i int) topic.Name { return topic.Name(fmt.Sprintf("t%d", i)) }

// draw makes a command; what it is about is looked up in the true state.
func (m *model) draw(r *rand.Rand) command {
	view := m.truth.View()
	switch n := r.IntN(100); {
	case n < 4 || view.TopicCount() == 0:
		c := state.CreateTopic{Name: topicName(r.IntN(topics)), Spec: state.Spec{Partitions: 1 + uint32(r.IntN(3))}, IfNotExists: true, By: "sim"}
		return command{what: "create " + string(c.Name), bytes: state.AppendCreateTopic(nil, &c)}
	case n < 5:
		return m.drawDelete(r)
	case n < 12:
		return m.drawTrim(r)
	case n < 18:
		return command{what: "rotate", bytes: state.AppendRotate(nil, &state.Rotate{Segment: view.Segment()})}
	}
	return m.drawPublish(r)
}

func (m *model) drawDelete(r *rand.Rand) command {
	name := topicName(r.IntN(topics))
	c := command{what: "delete " + string(name), bytes: state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: name, By: "sim"})}
	if t, ok := m.truth.View().Topic(name); ok {
		c.deletes = t.Partitions
	}
	return c
}

// someParts are partition ids, mostly of partitions that are there.
func (m *model) somePart(r *rand.Rand) topic.PartitionID {
	var ids []topic.PartitionID
	for p := range m.truth.View().Partitions() {
		ids = append(ids, p.ID)
	}
	if len(ids) == 0 || r.IntN(30) == 0 {
		return topic.PartitionID(1 + r.IntN(len(m.parts)+1))
	}
	return ids[r.IntN(len(ids))]
}

func (m *model) drawTrim(r *rand.Rand) command {
	var t state.Trim
	for range 1 + r.IntN(3) {
		id := m.somePart(r)
		cut := state.Cut{Partition: id}
		if p := m.parts[id]; p != nil && p.next > 0 {
			cut.Low = topic.Offset(r.Int64N(int64(p.next) + 2))
		}
		t.Cuts = append(t.Cuts, cut)
	}
	return command{what: fmt.Sprintf("trim %v", t.Cuts), bytes: state.AppendTrim(nil, &t), trim: &t}
}

// drawPublish goes on with a producer's sequence, repeats what it sent, or leaves a gap.
func (m *model) drawPublish(r *rand.Rand) command {
	id, producer := m.somePart(r), byte(r.IntN(producers))
	past := m.sent[sender{producer, id}]
	sequence, count := uint64(0), 1+r.IntN(4)
	if n := len(past); n > 0 {
		sequence = past[n-1].sequence + uint64(past[n-1].count)
		switch r.IntN(10) {
		case 0:
			old := past[r.IntN(n)]
			sequence, count = old.sequence, int(old.count)
		case 1:
			sequence += uint64(r.IntN(3))
		}
	}
	var records []byte
	for i := range count {
		records = batch.AppendRecord(records, &batch.Record{Body: fmt.Appendf(nil, "%d of %d by %d: %0*d", sequence+uint64(i), id, producer, r.IntN(200), 0)})
	}
	p := state.Publish{Partition: id, Producer: [16]byte{producer}, Sequence: sequence, Info: batch.Info{Count: uint32(count)}, Principal: "spiffe://td/client/sim", Records: records}
	return command{what: fmt.Sprintf("publish %d+%d to %d by %d", sequence, count, id, producer), bytes: state.AppendPublish(nil, &p), publish: &p}
}
