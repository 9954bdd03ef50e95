package state

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/topic"
)

// onSettle checks every settlement before it applies the first one.
func (m *Machine) onSettle(c *Settle, e *Effects) Result {
	g, r, ok := m.group(c.Group)
	if !ok {
		return r
	}
	if r.Version = g.Resets; c.ID != g.ID || c.Resets != g.Resets {
		r.Status = StatusConflict
		r.Text = fmt.Sprintf("group %s was reset or made anew since these records were delivered", g.Name)
		return r
	}
	asides := map[*Cursor]int{}
	for i := range c.Items {
		if fault, ok := m.settleable(g, &c.Items[i], asides); !ok {
			return fault
		}
	}
	for i := range c.Items {
		m.settleOne(g, c, &c.Items[i], e)
	}
	return r
}

// settleable says whether a settlement can be applied. asides counts what would be put aside.
func (m *Machine) settleable(g *Group, s *Settlement, asides map[*Cursor]int) (Result, bool) {
	part := m.parts[s.Partition]
	if part == nil {
		return Result{}, true
	}
	if !g.Spec.Matches(part.name) {
		return Result{Status: StatusInvalid, Text: fmt.Sprintf("group %s does not consume topic %s", g.Name, part.name)}, false
	}
	cur, end := m.cursor(g, part), s.Offset+topic.Offset(s.Count)
	switch {
	case end > part.next:
		return Result{Status: StatusInvalid, Text: fmt.Sprintf("partition %d ends before offset %d", part.id, end)}, false
	case end-cur.Floor > aheadMax:
		return Result{Status: StatusLimit, Text: fmt.Sprintf("record %d is not settled and holds back the group: at most %d records can be settled behind it", cur.Floor, int64(aheadMax))}, false
	}
	if s.Op == SettleDead && m.parts[s.Letter.Target] == nil && !cur.Settled(s.Offset) {
		if asides[cur]++; cur.AsideCount()+asides[cur] > m.limits.GroupAside {
			return Result{Status: StatusLimit, Text: fmt.Sprintf("limit reached: at most %d records are put aside for a group in a partition; replay or purge them, or give the group a topic for dead letters", m.limits.GroupAside)}, false
		}
	}
	return Result{}, true
}

// settleOne applies a settlement that was checked.
func (m *Machine) settleOne(g *Group, c *Settle, s *Settlement, e *Effects) {
	part := m.parts[s.Partition]
	if part == nil {
		return
	}
	cur, end := m.cursor(g, part), s.Offset+topic.Offset(s.Count)
	switch s.Op {
	case SettleRetry:
		for at := max(s.Offset, cur.Floor); at < end; at++ {
			cur.retried(at, s.Attempt, m.next.timeMs+int64(s.DelayMs))
		}
		return
	case SettleDead:
		if cur.Settled(s.Offset) {
			return
		}
		m.bury(cur, c, s, e)
	}
	cur.settle(s.Offset, end)
	cur.forget(s.Offset, end)
}

// bury sends a dead record to its topic, or puts it aside.
func (m *Machine) bury(cur *Cursor, c *Settle, s *Settlement, e *Effects) {
	cur.Dead++
	target := m.parts[s.Letter.Target]
	if target == nil {
		cur.aside = with(cur.aside, s.Offset, PutAside{Count: s.Attempt, AtMs: m.next.timeMs, Reason: s.Letter.Reason})
		return
	}
	origin := s.Letter.Origin
	origin.Reason, origin.Count = s.Letter.Reason, s.Attempt
	m.store(target, &batch.Meta{Flags: s.Letter.Info.Flags, Count: s.Letter.Info.Count, MinTTLMs: s.Letter.Info.MinTTLMs,
		Publisher: c.By, SPKI: c.SPKI, PolicyVersion: c.PolicyVersion, Origin: &origin}, s.Letter.Records, e)
}
