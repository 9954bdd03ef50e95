package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/waxwing-mq/waxwing/topic"
)

// cursorKey names what a group knows of a partition.
type cursorKey struct {
	partition topic.PartitionID
	group     GroupID
}

// bytes sorts cursors by partition, so that all of a partition can go at once.
func (k cursorKey) bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(k.partition))
	return binary.BigEndian.AppendUint64(b, uint64(k.group))
}

func readCursorKey(b []byte) cursorKey {
	return cursorKey{topic.PartitionID(binary.BigEndian.Uint64(b)), GroupID(binary.BigEndian.Uint64(b[8:]))}
}

// before is the order of the bytes.
func (k cursorKey) before(o cursorKey) bool {
	return cmp.Or(cmp.Compare(k.partition, o.partition), cmp.Compare(k.group, o.group)) < 0
}

// Group looks a group up by name.
func (v *View) Group(name topic.Name) (*Group, bool) { return v.groups.Get([]byte(name)) }

// GroupCount is the number of groups.
func (v *View) GroupCount() int { return v.groups.Len() }

// Groups yields the groups behind the name from (exclusive; "" = all), in the order of the names' bytes, until yield
// returns false.
func (v *View) Groups(from string, yield func(*Group) bool) {
	it := v.groups.Root().Iterator()
	it.SeekLowerBound([]byte(from))
	for key, g, ok := it.Next(); ok; key, g, ok = it.Next() {
		if string(key) != from && !yield(g) {
			return
		}
	}
}

// Cursor is what a group knows of a partition; ok is false for a partition that does not exist. Whether the group
// consumes its topic is not asked.
func (v *View) Cursor(g GroupID, id topic.PartitionID) (c *Cursor, ok bool) {
	part, ok := v.parts.Get(partitionKey(id))
	if !ok {
		return nil, false
	}
	if c, ok = v.cursors.Get(cursorKey{id, g}.bytes()); !ok {
		c = &Cursor{} // never touched: from the first record on
	}
	return c.above(part.Low), true
}

// TopicsOf yields the topics that a group consumes, by name, until yield returns false.
func (v *View) TopicsOf(s *GroupSpec, yield func(*Topic) bool) {
	if names, ok := literals(s.Topics); ok {
		for _, name := range names {
			if t, there := v.Topic(name); there && !yield(t) {
				return
			}
		}
		return
	}
	v.Topics("", func(t *Topic) bool { return !s.Matches(t.Name) || yield(t) })
}

// literals are the names of patterns without a wildcard, sorted.
func literals(patterns []topic.Pattern) ([]topic.Name, bool) {
	names := make([]topic.Name, 0, len(patterns))
	for _, p := range patterns {
		name, ok := p.Literal()
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, true
}

func (m *Machine) onCreateGroup(c *CreateGroup, e *Effects) Result {
	if _, err := topic.ParseName(string(c.Name)); err != nil {
		return Result{Status: StatusInvalid, Text: err.Error()}
	}
	if fault := c.Spec.fault(); fault != "" {
		return Result{Status: StatusInvalid, Text: fault}
	}
	if g, ok := m.next.Group(c.Name); ok {
		if g.Spec.equal(&c.Spec) {
			return Result{Status: StatusOK}
		}
		return Result{Status: StatusExists, Text: fmt.Sprintf("group %s exists with other settings; alter it, or remove it first", c.Name)}
	}
	if limit := tighter(m.limits.Groups, c.GroupsMax); m.next.GroupCount() >= limit {
		return Result{Status: StatusLimit, Text: fmt.Sprintf("limit reached: at most %d groups", limit)}
	}
	g := &Group{Name: c.Name, ID: m.next.nextGroup, CreatedMs: m.next.timeMs, CreatedBy: c.By, Spec: c.Spec}
	m.next.nextGroup++
	m.place(g, c.Starts)
	m.setGroup(g, e)
	return Result{Status: StatusOK, Created: true}
}

func (m *Machine) onAlterGroup(c *AlterGroup, e *Effects) Result {
	old, r, ok := m.group(c.Name)
	if !ok {
		return r
	}
	g := *old
	c.merge(&g)
	if fault := g.Spec.fault(); fault != "" {
		return Result{Status: StatusInvalid, Text: fault}
	}
	if g.Paused != old.Paused || !g.Spec.equal(&old.Spec) {
		m.setGroup(&g, e)
	}
	return r
}

// merge replaces what the mask says.
func (c *AlterGroup) merge(g *Group) {
	if c.Mask&AlterAckWait != 0 {
		g.Spec.AckWaitMs = c.Spec.AckWaitMs
	}
	if c.Mask&AlterMaxDeliver != 0 {
		g.Spec.MaxDeliver = c.Spec.MaxDeliver
	}
	if c.Mask&AlterBackoff != 0 {
		g.Spec.BackoffMs = c.Spec.BackoffMs
	}
	if c.Mask&AlterDeadLetter != 0 {
		g.Spec.DeadLetter = c.Spec.DeadLetter
	}
	if c.Mask&AlterMaxInFlight != 0 {
		g.Spec.MaxInFlight = c.Spec.MaxInFlight
	}
	if c.Mask&AlterPaused != 0 {
		g.Paused = c.Paused
	}
}

func (m *Machine) onResetGroup(c *ResetGroup, e *Effects) Result {
	old, r, ok := m.group(c.Name)
	if !ok {
		return r
	}
	if r.Version = old.Resets; c.Resets != old.Resets {
		r.Status = StatusConflict
		r.Text = fmt.Sprintf("group %s was reset meanwhile; look at its positions again", c.Name)
		return r
	}
	for _, s := range c.Starts {
		if part := m.parts[s.Partition]; part != nil && !old.Spec.Matches(part.name) {
			return Result{Status: StatusInvalid, Text: fmt.Sprintf("group %s does not consume topic %s", c.Name, part.name)}
		}
	}
	g := *old
	g.Resets++
	m.place(&g, c.Starts)
	m.setGroup(&g, e)
	r.Version = g.Resets
	return r
}

func (m *Machine) onDeleteGroup(c *DeleteGroup, e *Effects) Result {
	g, r, ok := m.group(c.Name)
	if !ok {
		return r
	}
	m.flushCursors()
	txn := m.next.cursors.Txn()
	m.next.TopicsOf(&g.Spec, func(t *Topic) bool {
		for _, id := range t.Partitions {
			txn.Delete(cursorKey{id, g.ID}.bytes())
		}
		return true
	})
	m.next.cursors = txn.CommitOnly()
	m.next.groups, _, _ = m.next.groups.Delete([]byte(g.Name))
	e.Change |= ChangedGroups
	return r
}

// group finds the group that a command means. Without ok, r is the answer.
func (m *Machine) group(name topic.Name) (g *Group, r Result, ok bool) {
	if g, ok = m.next.Group(name); !ok {
		return nil, Result{Status: StatusNotFound, Text: fmt.Sprintf("no group %q", name)}, false
	}
	return g, Result{Status: StatusOK}, true
}

func (m *Machine) setGroup(g *Group, e *Effects) {
	m.next.groups, _, _ = m.next.groups.Insert([]byte(g.Name), g)
	e.Change |= ChangedGroups
}

// place sets the positions of a group, within what the partitions have. The counters stay.
func (m *Machine) place(g *Group, starts []Position) {
	for _, s := range starts {
		part := m.parts[s.Partition]
		if part == nil || !g.Spec.Matches(part.name) {
			continue
		}
		c := m.cursor(g, part)
		*c = Cursor{Floor: min(max(s.Offset, part.low), part.next), Lost: c.Lost, Retries: c.Retries, Dead: c.Dead}
	}
}

// cursor is a group's cursor as the current entry may change it; flush puts it into the view.
func (m *Machine) cursor(g *Group, part *partition) *Cursor {
	key := cursorKey{part.id, g.ID}
	if c := m.moved[key]; c != nil {
		return c
	}
	c, ok := m.next.cursors.Get(key.bytes())
	if !ok {
		c = &Cursor{}
	}
	if lifted := c.above(part.low); lifted != c {
		c = lifted // a copy already
	} else {
		c = c.copy()
	}
	m.moved[key] = c
	return c
}

// flushCursors puts what the entry moved into the view.
func (m *Machine) flushCursors() {
	if len(m.moved) == 0 {
		return
	}
	txn := m.next.cursors.Txn()
	for key, c := range m.moved {
		txn.Insert(key.bytes(), c)
	}
	m.next.cursors = txn.CommitOnly()
	clear(m.moved)
}
