package sim

import (
	"fmt"
	"strings"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// model is what must hold, in the plainest form: it never crashes and forgets nothing.
type model struct {
	truth   *state.Machine      // has applied every entry once, and was never restored
	digests map[uint64][32]byte // of the state behind each entry that cuts
	effects state.Effects
	parts   map[topic.PartitionID]*modelPart
	sent    map[sender][]sentBatch // what each producer was told, in order
	cuts    map[uint64]string      // what is in each segment, by number
}

type modelPart struct {
	low, next topic.Offset
	gone      bool
	batches   []state.Append
}

type sender struct {
	producer  byte
	partition topic.PartitionID
}

type sentBatch struct {
	sequence uint64
	count    uint32
	offset   topic.Offset
}

func newModel() *model {
	return &model{truth: state.New(state.Limits{}), digests: map[uint64][32]byte{}, parts: map[topic.PartitionID]*modelPart{}, sent: map[sender][]sentBatch{}, cuts: map[uint64]string{}}
}

// apply takes an entry that is durable: sooner or later the node must have applied it as well.
func (m *model) apply(e *entry, cmds []command) error {
	m.effects.Reset()
	if err := m.truth.Apply(e.index, e.data, &m.effects); err != nil {
		return fmt.Errorf("the truth: %w", err)
	}
	if m.effects.Rotated {
		m.digests[e.index] = m.truth.Digest()
	}
	for i := range cmds {
		if err := m.command(&cmds[i], &m.effects.Results[i]); err != nil {
			return fmt.Errorf("entry %d, command %d (%s): %w", e.index, i, cmds[i].what, err)
		}
	}
	for _, a := range m.effects.Appends {
		p := m.parts[a.Partition]
		if end := topic.Offset(a.Count); p == nil || a.Base+end > p.next {
			return fmt.Errorf("entry %d: batch at %d of partition %d, which ends at %+v", e.index, a.Base, a.Partition, p)
		}
		p.batches = append(p.batches, a)
	}
	return nil
}

// command compares an answer with the rules.
func (m *model) command(c *command, r *state.Result) error {
	switch {
	case c.publish != nil:
		return m.publish(c.publish, r)
	case c.trim != nil:
		for _, cut := range c.trim.Cuts {
			if p := m.parts[cut.Partition]; p != nil && !p.gone {
				p.low = max(p.low, min(cut.Low, p.next))
			}
		}
	case c.deletes != nil:
		for _, id := range c.deletes {
			m.parts[id].gone = true
		}
	case r.Topic != nil:
		for _, id := range r.Topic.Partitions {
			if m.parts[id] == nil {
				m.parts[id] = &modelPart{}
			}
		}
	}
	return nil
}

// publish is the dedupe window: the next sequence is appended, one of the last 64 batches is a repeat, anything else
// is refused.
func (m *model) publish(c *state.Publish, r *state.Result) error {
	p, key := m.parts[c.Partition], sender{c.Producer[0], c.Partition}
	want := state.Result{Status: state.StatusSequence}
	past := m.sent[key]
	next := uint64(0)
	if n := len(past); n > 0 {
		next = past[n-1].sequence + uint64(past[n-1].count)
	}
	switch {
	case p == nil || p.gone:
		want.Status = state.StatusNotFound
	case c.Sequence == next:
		want.Status, want.Offset = state.StatusOK, p.next
		m.sent[key] = append(past, sentBatch{c.Sequence, c.Info.Count, p.next})
		p.next += topic.Offset(c.Info.Count)
	default:
		for _, s := range past[max(0, len(past)-state.WindowBatches):] {
			if s.sequence == c.Sequence && s.count == c.Info.Count {
				want.Status, want.Offset = state.StatusDuplicate, s.offset
			}
		}
	}
	if r.Status != want.Status || r.Offset != want.Offset {
		return fmt.Errorf("answered %v at %d, want %v at %d", r.Status, r.Offset, want.Status, want.Offset)
	}
	return nil
}

// cut notes what a segment holds; whenever it is filled again it must hold the same.
func (m *model) cut(s *segment) error {
	var text strings.Builder
	fmt.Fprint(&text, s.from, s.point)
	for _, id := range s.partitions() {
		e := s.extents[id]
		fmt.Fprintf(&text, " %d:%d-%d/%d/%d", id, e.base, e.next, e.bytes, len(e.batches))
	}
	if was, ok := m.cuts[s.cuts.First]; ok && was != text.String() {
		return fmt.Errorf("segment %v was cut as %s, is now cut as %s", s.cuts, was, text.String())
	}
	m.cuts[s.cuts.First] = text.String()
	return nil
}
