package lease_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/lease"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// world is a table over a real state machine, and what the members know.
type world struct {
	t     *rapid.T
	m     *state.Machine
	index uint64
	now   time.Time
	table *lease.Table
	part  topic.PartitionID
	has   map[lease.Record]delivery // the newest delivery of a record
	taken map[lease.Record]bool     // it is held now, as far as its member knows
}

type delivery struct {
	member  lease.Member
	attempt uint64
	until   time.Time
}

const ackWait = 30 * time.Second

func (w *world) apply(cmd []byte) state.Result {
	w.index++
	var e state.Effects
	if err := w.m.Apply(w.index, state.AppendCommand(state.AppendEntryHeader(nil, w.now.UnixMilli()), cmd), &e); err != nil {
		w.t.Fatal(err)
	}
	return e.Results[0]
}

func (w *world) source(id topic.PartitionID) (*state.Cursor, topic.Offset, bool) {
	c, ok := w.m.View().Cursor(1, id)
	if !ok {
		return nil, 0, false
	}
	p, _ := w.m.View().Partition(id)
	return c, p.Next, true
}

func (w *world) cursor() *state.Cursor {
	c, _, _ := w.source(w.part)
	return c
}

// settle proposes one settlement and tells the table.
func (w *world) settle(r lease.Record, op state.SettleOp, attempt, delayMs uint64) {
	s := state.Settlement{Op: op, Partition: r.Partition, Offset: r.Offset, Count: 1, Attempt: attempt, DelayMs: delayMs}
	if res := w.apply(state.AppendSettle(nil, &state.Settle{Group: "g", ID: 1, Items: []state.Settlement{s}})); res.Status != state.StatusOK {
		w.t.Fatalf("%+v", res)
	}
	var due time.Time
	if op == state.SettleRetry {
		due = w.now.Add(time.Duration(delayMs) * time.Millisecond)
	}
	w.table.Done(r, due)
	delete(w.taken, r)
}

// TestG01Leases: whatever members do, no record is held by two at once, none is handed out that is settled, a delivery that was
// followed by another never counts, and in the end every record was handed out and is settled.
func TestG01Leases(t *testing.T) {
	taken := 0
	for range lane.Pick(3, 20, 200) {
		rapid.Check(t, func(rt *rapid.T) {
			w := newWorld(rt)
			rt.Repeat(map[string]func(*rapid.T){"publish": w.publish, "take": w.take, "say": w.say, "wait": w.wait, "leave": w.leave, "failover": w.failover})
			taken += len(w.has)
			w.finish()
		})
	}
	if taken == 0 {
		t.Error("nothing was ever taken")
	}
}

func newWorld(rt *rapid.T) *world {
	w := &world{t: rt, m: state.New(state.Limits{}), now: time.UnixMilli(1_000_000), part: 1}
	w.apply(state.AppendCreateTopic(nil, &state.CreateTopic{Name: "t"}))
	p, err := topic.ParsePattern("t")
	if err != nil {
		rt.Fatal(err)
	}
	w.apply(state.AppendCreateGroup(nil, &state.CreateGroup{Name: "g", Spec: state.GroupSpec{Topics: []topic.Pattern{p}, AckWaitMs: uint64(ackWait.Milliseconds())}}))
	w.failover(rt)
	return w
}

func (w *world) publish(rt *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(rt, "records")
	var b []byte
	for range n {
		b = batch.AppendRecord(b, &batch.Record{})
	}
	_, end, _ := w.source(w.part)
	w.apply(state.AppendPublish(nil, &state.Publish{Partition: w.part, Principal: "p", Sequence: uint64(end), Info: batch.Info{Count: uint32(n)}, Records: b}))
}

func (w *world) take(rt *rapid.T) {
	m := lease.Member{rapid.ByteRange(1, 3).Draw(rt, "member")}
	for _, g := range w.table.Take(w.now, m, rapid.IntRange(0, 4).Draw(rt, "n"), w.source, func(topic.PartitionID) bool { return true }) {
		for i := range g.Count {
			r := lease.Record{Partition: g.Partition, Offset: g.Offset + topic.Offset(i)}
			old := w.has[r]
			switch {
			case w.taken[r]:
				rt.Fatalf("record %d is held by %v and given to %v", r.Offset, old.member, m)
			case w.cursor().Settled(r.Offset):
				rt.Fatalf("record %d is settled and given to %v", r.Offset, m)
			case g.Attempt != w.cursor().Attempt(r.Offset).Count+1:
				rt.Fatalf("record %d is delivery %d behind %d", r.Offset, g.Attempt, w.cursor().Attempt(r.Offset).Count)
			case w.now.UnixMilli() < w.cursor().Attempt(r.Offset).DueMs:
				rt.Fatalf("record %d is delivered before its time", r.Offset)
			}
			w.has[r], w.taken[r] = delivery{m, g.Attempt, w.now.Add(ackWait)}, true
		}
	}
}

// say settles some record by what a member was once told.
func (w *world) say(rt *rapid.T) {
	_, end, _ := w.source(w.part)
	if end == 0 {
		rt.Skip("no record")
	}
	r := lease.Record{Partition: w.part, Offset: topic.Offset(rapid.Int64Range(0, int64(end)-1).Draw(rt, "offset"))}
	d, ok := w.has[r]
	if !ok {
		rt.Skip("never delivered")
	}
	who, attempt := d.member, d.attempt
	if rapid.IntRange(0, 3).Draw(rt, "another") == 0 {
		who = lease.Member{9}
	}
	switch v := w.table.Settle(w.now, who, r, attempt, w.cursor()); {
	case v == lease.Settled && !w.cursor().Settled(r.Offset):
		rt.Fatalf("record %d is not settled", r.Offset)
	case v == lease.Accepted && w.taken[r] && who != d.member:
		rt.Fatalf("record %d is held by %v, and what %v says counts", r.Offset, d.member, who)
	case v == lease.Stale && who == d.member:
		rt.Fatalf("record %d: its own member is stale", r.Offset)
	case v == lease.Accepted && rapid.Bool().Draw(rt, "done"):
		w.settle(r, state.SettleAck, attempt, 0)
	case v == lease.Accepted:
		w.settle(r, state.SettleRetry, attempt, rapid.Uint64Range(0, 50_000).Draw(rt, "delay"))
	}
}

func (w *world) wait(rt *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.Int64Range(0, 40_000).Draw(rt, "ms")) * time.Millisecond)
	w.end(w.table.Expire(w.now))
	for r := range w.taken {
		if !w.has[r].until.After(w.now) {
			rt.Fatalf("record %d is held beyond its time", r.Offset)
		}
	}
}

func (w *world) leave(rt *rapid.T) {
	m := lease.Member{rapid.ByteRange(1, 3).Draw(rt, "member")}
	w.end(w.table.Leave(m))
	if w.table.Held(m) != 0 {
		rt.Fatalf("%v has left and holds %d records", m, w.table.Held(m))
	}
}

func (w *world) end(list []lease.Ended) {
	for _, e := range list {
		w.settle(e.Record, state.SettleRetry, e.Attempt, 0)
	}
}

// failover begins a new table; the leases of before are forgotten.
func (w *world) failover(*rapid.T) {
	w.table = lease.New(ackWait, 0)
	w.table.SetParts([]topic.PartitionID{w.part}, w.source)
	w.has, w.taken = map[lease.Record]delivery{}, map[lease.Record]bool{}
}

// finish lets one member settle everything that is left.
func (w *world) finish() {
	_, end, _ := w.source(w.part)
	for range 10_000 {
		if w.cursor().Floor == end {
			return
		}
		w.now = w.now.Add(time.Minute)
		w.end(w.table.Expire(w.now))
		for _, g := range w.table.Take(w.now, lease.Member{7}, 100, w.source, func(topic.PartitionID) bool { return true }) {
			for i := range g.Count {
				w.settle(lease.Record{Partition: g.Partition, Offset: g.Offset + topic.Offset(i)}, state.SettleAck, g.Attempt, 0)
			}
		}
	}
	w.t.Fatalf("record %d of %d is never delivered", w.cursor().Floor, end)
}
