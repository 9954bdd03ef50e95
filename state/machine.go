package state

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/topic"
)

// Machine is the state machine of one raft group.
type Machine struct {
	limits Limits
	view   atomic.Pointer[View] // what View hands out; never changed in place

	// Owned by Apply.
	next      View // the view that the current entry builds
	parts     map[topic.PartitionID]*partition
	dirty     []*partition // partitions whose numbers changed in this entry
	producers *producers
	moved     map[cursorKey]*Cursor // changed in this entry, not in the view yet
	rotated   uint64                // the last entry that ended a segment
	scratch   []byte
}

// partition is the live form of a partition; View has copies.
type partition struct {
	id          topic.PartitionID
	incarnation topic.Incarnation
	name        topic.Name
	index       uint32
	low, next   topic.Offset
	dirty       bool
	producers   map[*producer]struct{} // those with a window here
}

// scratchBytes holds the header of a stored batch, and small batches whole.
const scratchBytes = 1 << 10

// New makes an empty machine. Limits must be equal on every node; the zero value is
// the default.
func New(l Limits) *Machine {
	m := &Machine{
		limits:  l.withDefaults(),
		parts:   map[topic.PartitionID]*partition{},
		moved:   map[cursorKey]*Cursor{},
		scratch: make([]byte, scratchBytes),
		next: View{
			topics:          iradix.New[*Topic](),
			parts:           iradix.New[*Partition](),
			revocations:     iradix.New[Revocation](),
			members:         iradix.New[Member](),
			groups:          iradix.New[*Group](),
			cursors:         iradix.New[*Cursor](),
			nextPartition:   1,
			nextIncarnation: 1,
			nextGroup:       1,
			segment:         1,
		},
	}
	m.producers = newProducers(m.limits)
	m.publishView()
	return m
}

// View returns the state after the last applied entry, in O(1). It never changes.
func (m *Machine) View() *View { return m.view.Load() }

// Adopt takes over the state of another machine with the same limits, which nobody may use afterwards. Like Apply it is
// called by one goroutine at a time.
func (m *Machine) Adopt(other *Machine) {
	m.next, m.parts, m.dirty, m.producers, m.rotated = other.next, other.parts, other.dirty, other.producers, other.rotated
	m.publishView()
}

// Apply applies the entry at a raft index and adds to e. Indexes rise, with gaps where
// the log holds entries that are not ours. An error means a damaged entry or one of a
// newer version: part of it may be applied, so the machine must not be used any more
// and the node stops. The entry may be reused by the caller afterwards.
func (m *Machine) Apply(index uint64, b []byte, e *Effects) error {
	if index <= m.next.applied {
		return fmt.Errorf("entry %d is not behind entry %d, which was applied last", index, m.next.applied)
	}
	in, err := openEntry(b)
	if err != nil {
		return err
	}
	m.next.applied = index
	m.next.timeMs = max(m.next.timeMs, in.timeMs)
	m.producers.expire(m.next.timeMs)
	for n := 0; ; n++ {
		cmd, ok, err := in.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		r, err := m.command(cmd, e)
		if err != nil {
			return fmt.Errorf("command %d: %w", n, err)
		}
		e.Results = append(e.Results, r)
	}
	m.flush()
	m.publishView()
	return nil
}

// markDirty notes that the numbers of part changed in this entry.
func (m *Machine) markDirty(part *partition) {
	if !part.dirty {
		part.dirty = true
		m.dirty = append(m.dirty, part)
	}
}

// flush copies the changed partitions and cursors into the view: once per entry, however many
// batches the entry has.
func (m *Machine) flush() {
	m.flushCursors()
	if len(m.dirty) == 0 {
		return
	}
	txn := m.next.parts.Txn()
	for _, part := range m.dirty {
		part.dirty = false
		if m.parts[part.id] == part {
			txn.Insert(partitionKey(part.id), part.snapshot())
		}
	}
	m.next.parts = txn.CommitOnly()
	clear(m.dirty)
	m.dirty = m.dirty[:0]
}

// publishView makes the built view the current one.
func (m *Machine) publishView() {
	v := m.next
	m.view.Store(&v)
}

func (p *partition) snapshot() *Partition {
	return &Partition{ID: p.id, Topic: p.name, Incarnation: p.incarnation, Index: p.index, Low: p.low, Next: p.next}
}

// partitionKey sorts partitions by id.
func partitionKey(id topic.PartitionID) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(id))
}
