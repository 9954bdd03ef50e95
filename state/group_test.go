package state_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

func patterns(t testing.TB, list ...string) (out []topic.Pattern) {
	for _, s := range list {
		p, err := topic.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func groupSpec(t testing.TB, topics ...string) state.GroupSpec {
	return state.GroupSpec{Topics: patterns(t, topics...), AckWaitMs: 30_000}
}

// settleCommand is one settlement: "ack|retry|dead PARTITION OFFSET [count=N attempt=N delay=N reason=S target=P]".
func (s *scene) settlement(a args) state.Settlement {
	off, err := strconv.ParseInt(a.pos[3], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	item := state.Settlement{Op: map[string]state.SettleOp{"ack": state.SettleAck, "retry": state.SettleRetry, "dead": state.SettleDead}[a.pos[1]],
		Partition: s.parts[a.pos[2]], Offset: topic.Offset(off), Count: uint32(a.num("count", 1)), Attempt: a.num("attempt", 0), DelayMs: a.num("delay", 0)}
	if item.Op != state.SettleDead {
		return item
	}
	item.Letter = &state.Letter{Reason: a.text("reason", "")}
	if target, ok := a.vals["target"]; ok {
		records, info := blob(1, "dead")
		item.Letter.Target, item.Letter.Info, item.Letter.Records = s.parts[target], info, records
		item.Letter.Origin = batch.Origin{Topic: "orders", Offset: item.Offset, TimeMs: 7, Publisher: "w", SPKI: [32]byte{1}}
	}
	return item
}

// group are the lines about groups.
func (s *scene) group(name string, a args) []byte {
	spec := state.GroupSpec{AckWaitMs: a.num("wait", 30_000), MaxDeliver: a.num("max", 0), DeadLetter: topic.Name(a.text("dead", "")), MaxInFlight: a.num("flight", 0)}
	if list, ok := a.vals["topics"]; ok {
		spec.Topics = patterns(s.t, strings.Split(list, ",")...)
	}
	switch name {
	case "group":
		return state.AppendCreateGroup(nil, &state.CreateGroup{Name: topic.Name(a.pos[0]), Spec: spec, Starts: s.positions(a), By: "test"})
	case "altergroup":
		mask := state.AlterPaused
		if _, ok := a.vals["max"]; ok {
			mask |= state.AlterMaxDeliver
		}
		if _, ok := a.vals["dead"]; ok {
			mask |= state.AlterDeadLetter
		}
		return state.AppendAlterGroup(nil, &state.AlterGroup{Name: topic.Name(a.pos[0]), Mask: mask, Spec: spec, Paused: a.text("paused", "") == "yes", By: "test"})
	case "reset":
		return state.AppendResetGroup(nil, &state.ResetGroup{Name: topic.Name(a.pos[0]), Resets: a.num("resets", 0), Starts: s.positions(a), By: "test"})
	case "rmgroup":
		return state.AppendDeleteGroup(nil, &state.DeleteGroup{Name: topic.Name(a.pos[0]), By: "test"})
	}
	c := state.Settle{Group: topic.Name(a.pos[0]), ID: state.GroupID(a.num("id", 1)), Resets: a.num("resets", 0), By: "member", SPKI: [32]byte{9}, PolicyVersion: 5}
	c.Items = append(c.Items, s.settlement(a))
	return state.AppendSettle(nil, &c)
}

// positions reads "at=orders/0:5,orders/1:7".
func (s *scene) positions(a args) (list []state.Position) {
	if a.vals["at"] == "" {
		return nil
	}
	for word := range strings.SplitSeq(a.vals["at"], ",") {
		part, off, _ := strings.Cut(word, ":")
		n, err := strconv.ParseInt(off, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, state.Position{Partition: s.parts[part], Offset: topic.Offset(n)})
	}
	return list
}

// cursor words what a group knows of a partition.
func (s *scene) cursor(a args) string {
	v := s.m.View()
	g, ok := v.Group(topic.Name(a.pos[0]))
	if !ok {
		return "no group"
	}
	c, ok := v.Cursor(g.ID, s.parts[a.pos[1]])
	if !ok {
		return "no partition"
	}
	return fmt.Sprintf("paused=%v resets=%d %s", g.Paused, g.Resets, describeCursor(c))
}

func describeCursor(c *state.Cursor) string {
	var w strings.Builder
	fmt.Fprintf(&w, "floor=%d lost=%d retries=%d dead=%d", c.Floor, c.Lost, c.Retries, c.Dead)
	for from, end := range c.SettledAbove() {
		fmt.Fprintf(&w, " settled=%d-%d", from, end-1)
	}
	for at, x := range c.Attempts() {
		fmt.Fprintf(&w, " %d:attempts=%d:due=%dms", at, x.Count, x.DueMs)
	}
	for at, x := range c.Aside() {
		fmt.Fprintf(&w, " %d:aside:%d:%s@%dms", at, x.Count, x.Reason, x.AtMs)
	}
	return w.String()
}

// TestDeadLetter: a dead record is in its topic with what it was, once, and settled in the same entry.
func TestDeadLetter(t *testing.T) {
	l := newLog(t, state.Limits{})
	from, to := l.create("orders", 1)[0], l.create("dead", 1)[0]
	l.apply(publish(from, "w", 1, 0, 0, 3))
	l.apply(state.AppendCreateGroup(nil, &state.CreateGroup{Name: "g", Spec: groupSpec(t, "orders"), By: "test"}))
	records, info := blob(1, "poison")
	origin := batch.Origin{Topic: "orders", Partition: 0, Offset: 1, TimeMs: 900, Publisher: "w", SPKI: [32]byte{7}}
	cmd := state.AppendSettle(nil, &state.Settle{Group: "g", ID: 1, By: "member", SPKI: [32]byte{9}, PolicyVersion: 5, Items: []state.Settlement{
		{Op: state.SettleDead, Partition: from, Offset: 1, Count: 1, Attempt: 4, Letter: &state.Letter{Reason: "bad total", Target: to, Info: info, Origin: origin, Records: records}}}})
	for i, r := range l.apply(cmd, cmd) {
		if r.Status != state.StatusOK {
			t.Fatalf("settle %d: %+v", i, r)
		}
	}
	if len(l.e.Appends) != 1 {
		t.Fatalf("%d dead letters, want 1: the second settlement is a repeat", len(l.e.Appends))
	}
	var b batch.Batch
	if _, err := batch.Parse(l.e.Appends[0].Raw, &b); err != nil {
		t.Fatal(err)
	}
	origin.Reason, origin.Count = "bad total", 4
	if b.Origin == nil || *b.Origin != origin || b.Publisher != "member" || b.SPKI != [32]byte{9} || b.PolicyVersion != 5 || b.Partition != to || b.Base != 0 || b.TimeMs != l.at || string(b.Records) != string(records) {
		t.Errorf("the letter is %+v of %+v", b.Meta, b.Origin)
	}
	if c, _ := l.m.View().Cursor(1, from); !c.Settled(1) || c.Floor != 0 || c.Dead != 1 || c.AsideCount() != 0 {
		t.Errorf("the group knows %s", describeCursor(c))
	}
}

// TestGroupsWhileApplying: a view is read while the bitmaps behind it change (the race detector looks).
func TestGroupsWhileApplying(t *testing.T) {
	l := newLog(t, state.Limits{})
	part := l.create("t", 1)[0]
	rounds := uint64(lane.Pick(300, 3_000, 30_000))
	l.apply(state.AppendCreateGroup(nil, &state.CreateGroup{Name: "g", Spec: groupSpec(t, "t"), By: "test"}))
	l.apply(publish(part, "p", 1, 0, 0, 1))
	done := make(chan error, 1)
	go func() {
		for count := uint64(0); count < rounds; {
			c, _ := l.m.View().Cursor(1, part)
			ranges := uint64(0)
			for from, end := range c.SettledAbove() {
				ranges += uint64(end - from)
			}
			if count = c.SettledCount(); ranges != count {
				done <- fmt.Errorf("%d records in ranges, %d settled", ranges, count)
				return
			}
		}
		done <- nil
	}()
	for i := range rounds {
		ack := state.Settlement{Op: state.SettleAck, Partition: part, Offset: topic.Offset(2*i + 1), Count: 1}
		l.apply(publish(part, "p", 1, 0, 2*i+1, 2), state.AppendSettle(nil, &state.Settle{Group: "g", ID: 1, Items: []state.Settlement{ack}}))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// manyGroups is a machine in which n groups consume one topic of ten records, and have settled every second one.
func manyGroups(t testing.TB, n int) *log {
	l := newLog(t, state.Limits{})
	part := l.create("t", 1)[0]
	l.apply(publish(part, "p", 1, 0, 0, 10))
	for i := range n {
		items := make([]state.Settlement, 0, 4)
		for at := 1; at < 8; at += 2 {
			items = append(items, state.Settlement{Op: state.SettleAck, Partition: part, Offset: topic.Offset(at), Count: 1})
		}
		name := topic.Name(fmt.Sprintf("group.number.%d", i))
		for _, r := range l.apply(state.AppendCreateGroup(nil, &state.CreateGroup{Name: name, Spec: groupSpec(t, "t"), By: "spiffe://example.org/client/maker"}),
			state.AppendSettle(nil, &state.Settle{Group: name, ID: state.GroupID(i + 1), Items: items})) {
			if r.Status != state.StatusOK {
				t.Fatal(r)
			}
		}
	}
	return l
}

// TestManyGroups (O-06): what an entry costs does not grow with the number of groups, and a group takes no more memory than
// docs/limits.md says.
func TestManyGroups(t *testing.T) {
	const few = 10
	many := lane.Pick(2_000, 10_000, 10_000)
	cost := func(l *log) float64 {
		seq, at := uint64(10), topic.Offset(0)
		return testing.AllocsPerRun(20, func() {
			l.apply(publish(1, "p", 1, 0, seq, 1), state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: 1, Low: at}}}),
				state.AppendSettle(nil, &state.Settle{Group: "group.number.5", ID: 6, Items: []state.Settlement{{Op: state.SettleAck, Partition: 1, Offset: at, Count: 1}}}))
			seq++
			at++
		})
	}
	small := cost(manyGroups(t, few))
	l, bytes := heapOf(func() *log { return manyGroups(t, many) })
	if large := cost(l); large > 2*small {
		t.Errorf("an entry makes %v allocations with %d groups and %v with %d", large, many, small, few)
	}
	if bytes > many*groupMemory+memoryConstantly {
		t.Errorf("a group takes %d bytes, docs/limits.md says at most %d", bytes/many, groupMemory)
	} else {
		t.Logf("a group takes %d bytes, at most %d are promised", bytes/many, groupMemory)
	}
	size := 0
	for _, chunk := range encoded(l.m.Checkpoint()) {
		size += len(chunk)
	}
	if size > many*groupDisk+memoryConstantly {
		t.Errorf("a group takes %d bytes of a checkpoint, docs/limits.md says at most %d", size/many, groupDisk)
	}
}
