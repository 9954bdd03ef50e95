package state_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// naiveGroup keeps a word about every record of one partition.
type naiveGroup struct {
	log    *log
	part   topic.PartitionID
	next   topic.Offset
	low    topic.Offset
	start  topic.Offset // of what was ever to be delivered
	now    int64
	resets uint64
	id     state.GroupID
	seq    uint64

	records map[topic.Offset]*naiveRecord
	lost    uint64
	retries uint64
	dead    uint64
	acks    int
}

type naiveRecord struct {
	settled bool
	attempt state.Attempt
	aside   *state.PutAside
}

func (g *naiveGroup) record(at topic.Offset) *naiveRecord {
	if g.records[at] == nil {
		g.records[at] = &naiveRecord{settled: at < g.start}
	}
	return g.records[at]
}

// TestGroupModel (G-01): random settlements, trims, resets and restarts from a checkpoint against a word about every record.
// The floor falls only when the group is reset.
func TestGroupModel(t *testing.T) {
	acks := 0
	for range lane.Pick(1, 10, 100) {
		rapid.Check(t, func(rt *rapid.T) {
			g := &naiveGroup{log: newLog(t, state.Limits{GroupAside: 3}), now: 1_000, id: 1, records: map[topic.Offset]*naiveRecord{}}
			g.part = g.log.create("t", 1)[0]
			g.log.apply(state.AppendCreateGroup(nil, &state.CreateGroup{Name: "g", Spec: groupSpec(t, "t"), By: "test"}))
			floor := topic.Offset(0)
			rt.Repeat(map[string]func(*rapid.T){
				"publish": g.publish,
				"settle":  g.settle,
				"again":   g.settle,
				"trim":    g.trim,
				"reset":   func(rt *rapid.T) { floor = 0; g.reset(rt) },
				"restart": g.restart,
				"": func(rt *rapid.T) {
					c, _ := g.log.m.View().Cursor(g.id, g.part)
					if got, want := describeCursor(c), g.describe(); got != want {
						rt.Fatalf("state %s\nmodel %s", got, want)
					}
					if c.Floor < floor {
						rt.Fatalf("the floor fell from %d to %d", floor, c.Floor)
					}
					floor = c.Floor
					for at := range g.next {
						if c.Settled(at) != g.record(at).settled {
							rt.Fatalf("record %d: settled is %v", at, c.Settled(at))
						}
					}
				},
			})
			acks += g.acks
		})
	}
	if acks == 0 {
		t.Error("nothing was ever settled")
	}
}

func (g *naiveGroup) publish(rt *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(rt, "records")
	g.log.apply(publish(g.part, "w", 1, 0, g.seq, n))
	g.seq += uint64(n)
	g.next += topic.Offset(n)
}

// settle sends some settlements as one command: all count, or none.
func (g *naiveGroup) settle(rt *rapid.T) {
	if g.next == 0 {
		rt.Skip("no record")
	}
	g.log.at += int64(rapid.IntRange(-5, 50).Draw(rt, "ms"))
	g.now = max(g.now, g.log.at)
	c := state.Settle{Group: "g", ID: g.id, Resets: g.resets}
	if rapid.IntRange(0, 9).Draw(rt, "of before the reset") == 0 && g.resets > 0 {
		c.Resets--
	}
	for range rapid.IntRange(1, 4).Draw(rt, "items") {
		s := state.Settlement{Op: rapid.SampledFrom([]state.SettleOp{1, 1, 2, 3}).Draw(rt, "op"), Partition: g.part, Count: 1,
			Offset: topic.Offset(rapid.Int64Range(0, int64(g.next)-1).Draw(rt, "offset"))}
		switch s.Op {
		case state.SettleAck:
			s.Count = uint32(rapid.IntRange(1, 4).Draw(rt, "count"))
		case state.SettleRetry:
			s.Count, s.Attempt, s.DelayMs = 2, rapid.Uint64Range(1, 4).Draw(rt, "attempt"), rapid.Uint64Range(0, 9).Draw(rt, "delay")
		case state.SettleDead:
			s.Attempt, s.Letter = 2, &state.Letter{Reason: "bad"}
		}
		c.Items = append(c.Items, s)
	}
	status := g.judge(&c)
	if r := g.log.apply(state.AppendSettle(nil, &c))[0]; r.Status != status {
		rt.Fatalf("%+v: %+v, model %v", c, r, status)
	}
	if status == state.StatusOK {
		for _, s := range c.Items {
			g.one(s)
		}
		g.acks++
	}
}

func (g *naiveGroup) judge(c *state.Settle) state.Status {
	if c.Resets != g.resets {
		return state.StatusConflict
	}
	asides := 0
	for at := g.low; at < g.next; at++ {
		if g.record(at).aside != nil {
			asides++
		}
	}
	for _, s := range c.Items {
		if s.Offset+topic.Offset(s.Count) > g.next {
			return state.StatusInvalid
		}
		if s.Op == state.SettleDead && !g.record(s.Offset).settled {
			if asides++; asides > 3 {
				return state.StatusLimit
			}
		}
	}
	return state.StatusOK
}

func (g *naiveGroup) one(s state.Settlement) {
	for at := s.Offset; at < s.Offset+topic.Offset(s.Count); at++ {
		r := g.record(at)
		switch {
		case r.settled:
		case s.Op == state.SettleAck:
			r.settled, r.attempt = true, state.Attempt{}
		case s.Op == state.SettleDead:
			r.settled, r.attempt, r.aside = true, state.Attempt{}, &state.PutAside{Count: s.Attempt, AtMs: g.now, Reason: "bad"}
			g.dead++
		case s.Attempt > r.attempt.Count:
			r.attempt = state.Attempt{Count: s.Attempt, DueMs: g.now + int64(s.DelayMs)}
			g.retries++
		}
	}
}

func (g *naiveGroup) trim(rt *rapid.T) {
	low := topic.Offset(rapid.Int64Range(0, int64(g.next)).Draw(rt, "low"))
	g.log.apply(state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: g.part, Low: low}}}))
	for ; g.low < low; g.low++ {
		if r := g.record(g.low); !r.settled || r.aside != nil {
			*r = naiveRecord{settled: true}
			g.lost++
		}
	}
}

func (g *naiveGroup) reset(rt *rapid.T) {
	to := topic.Offset(rapid.Int64Range(0, int64(g.next)+2).Draw(rt, "to"))
	if r := g.log.apply(state.AppendResetGroup(nil, &state.ResetGroup{Name: "g", Resets: g.resets, Starts: []state.Position{{Partition: g.part, Offset: to}}}))[0]; r.Status != state.StatusOK {
		rt.Fatalf("%+v", r)
	}
	g.resets++
	g.start = min(max(to, g.low), g.next)
	clear(g.records)
}

// restart goes on with what a checkpoint restores.
func (g *naiveGroup) restart(rt *rapid.T) {
	m, err := state.Restore(state.Limits{GroupAside: 3}, from(encoded(g.log.m.Checkpoint())))
	if err != nil || m.Digest() != g.log.m.Digest() {
		rt.Fatalf("restored to another state: %v", err)
	}
	g.log.m = m
}

// describe words the model as describeCursor words the state.
func (g *naiveGroup) describe() string {
	floor := g.start
	for floor < g.next && g.record(floor).settled {
		floor++
	}
	var w strings.Builder
	fmt.Fprintf(&w, "floor=%d lost=%d retries=%d dead=%d", floor, g.lost, g.retries, g.dead)
	for at := floor; at < g.next; at++ {
		if from := at; g.record(at).settled {
			for at < g.next && g.record(at).settled {
				at++
			}
			fmt.Fprintf(&w, " settled=%d-%d", from, at-1)
		}
	}
	for at := range g.next {
		if a := g.record(at).attempt; a.Count > 0 {
			fmt.Fprintf(&w, " %d:attempts=%d:due=%dms", at, a.Count, a.DueMs)
		}
	}
	for at := range g.next {
		if p := g.record(at).aside; p != nil {
			fmt.Fprintf(&w, " %d:aside:%d:%s@%dms", at, p.Count, p.Reason, p.AtMs)
		}
	}
	return w.String()
}
