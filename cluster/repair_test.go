package cluster_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// sealSome fills so many segments with ten records each, and adds five that stay in memory. It returns the next offset.
func (c *crew) sealSome(t *testing.T, p topic.PartitionID, from, segments int) int {
	t.Helper()
	for range segments {
		c.leader().fill(t, p, from, from+10)
		from += 10
		c.seal(c.followers()...)
	}
	c.leader().fill(t, p, from, from+5)
	return from + 5
}

// repaired waits until a node knows of no damage.
func (c *crew) repaired(m *member) {
	c.t.Helper()
	if err := m.Group.Ready(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	for wait := 0; m.Log.NeedsRepair(); wait++ {
		if wait > 1200 {
			c.t.Fatalf("%s is not repaired: %v", m.id, m.Log.Damage())
		}
		time.Sleep(500 * time.Millisecond)
	}
	if err := m.Log.Damage(); err != nil {
		c.t.Errorf("%s needs no repair, and still: %v", m.id, err)
	}
}

// whole reads every sealed segment of a node, and looks for what a repair might have left.
func (c *crew) whole(m *member) {
	c.t.Helper()
	for _, s := range m.Log.Status() {
		if s, err := m.Log.VerifySegment(c.t.Context(), s.Name, 0); err != nil || s.Fault != "" || s.State == storage.StateDamaged {
			c.t.Errorf("%+v, %v", s, err)
		}
	}
	for wait := 0; ; wait++ { // the loop that repairs deletes it
		_, err := os.Lstat(filepath.Join(c.dir(m.id), "storage", "repair"))
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if wait > 100 {
			c.t.Fatal("the folder repair stays")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *crew) segment(m *member, name string) string {
	return filepath.Join(c.dir(m.id), "storage", "segments", name)
}

const second = "0000000002-0000000002"

// damages are ways to harm a sealed segment's folder.
var damages = map[string]func(t *testing.T, dir string){
	"value log":   func(t *testing.T, dir string) { flipFile(t, one(t, dir, "*.vlog"), 100, 3) },
	"table":       func(t *testing.T, dir string) { flipFile(t, one(t, dir, "*.sst"), 20, 3) },
	"MANIFEST":    func(t *testing.T, dir string) { flipFile(t, filepath.Join(dir, "MANIFEST"), 10, 3) },
	"KEYREGISTRY": func(t *testing.T, dir string) { flipFile(t, filepath.Join(dir, "KEYREGISTRY"), 10, 3) },
	"SEALED":      func(t *testing.T, dir string) { flipFile(t, filepath.Join(dir, "SEALED"), 20, 3) },
	"no SEALED":   func(t *testing.T, dir string) { mustRemove(t, filepath.Join(dir, "SEALED")) },
	"no table":    func(t *testing.T, dir string) { mustRemove(t, one(t, dir, "*.sst")) },
	"no folder":   mustRemove,
}

// scrubbed has a node read every sealed segment.
func (c *crew) scrubbed(m *member) {
	c.t.Helper()
	if err := m.Group.Ready(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	m.Log.Scrub()
	for m.Log.ScrubStatus().Due > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

// TestRepairAtStart: whatever is damaged in a sealed segment of a stopped follower, it starts, and another node gives it the
// records. The newest segment comes from the raft log where its checkpoint cannot be read.
func TestRepairAtStart(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		next := c.sealSome(t, p, 0, 4)
		for way, harm := range damages {
			if lane.Current() < 2 && way != "SEALED" && way != "value log" && way != "no folder" {
				continue
			}
			for i, fetched := range []bool{true, true, true, way == "value log"} {
				to := c.followers()[i%2]
				if lane.Current() < 2 && i%2 == 0 {
					continue
				}
				c.settle(to)
				before := c.segments.fetched(to.id)
				dir := segmentOf(t, to, uint64(i+1))
				c.stop(to.id)
				harm(t, dir)
				to = c.start(to.id)
				c.settle(to)
				c.scrubbed(to)
				c.repaired(to)
				to.holds(t, p, next)
				c.whole(to)
				if got := c.segments.fetched(to.id) - before; (got > 0) != fetched {
					t.Errorf("%s of segment %d: %d bytes came from other nodes", way, i+1, got)
				}
			}
		}
		c.leader().fill(t, p, next, next+5)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// segmentOf is the folder of the segment with a cut.
func segmentOf(t *testing.T, m *member, cut uint64) string {
	t.Helper()
	for _, s := range m.Log.Status() {
		if s.First == cut && s.State == storage.StateSealed {
			return s.Dir
		}
	}
	t.Fatalf("%s has no segment %d", m.id, cut)
	return ""
}

// TestRepairLeader: the leader's segment is damaged under its open files; a reader meets it, is told, and finds it repaired from
// a follower.
func TestRepairLeader(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		next := c.sealSome(t, p, 0, 3)
		id := c.leader().id
		c.stop(id) // so that nothing is in memory
		n := c.start(id)
		c.settle(n)
		if err := c.leader().Group.Raft().LeadershipTransferToServer(id, raft.ServerAddress(id)).Error(); err != nil || c.leader() != n {
			t.Fatalf("%s does not lead: %v", id, err)
		}
		n.holds(t, p, next)
		flipFile(t, one(t, segmentOf(t, n, 2), "*.vlog"), 100, 3)
		if _, _, _, err := n.Log.Read(p, 10, 1, nil); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("read of a damaged record: %v", err)
		}
		c.repaired(n)
		n.holds(t, p, next)
		c.whole(n)
		c.same(c.everybody()...)
	})
}

// TestRepairLate: nobody can give the segment: one node's is damaged, too, and the other one is away. It is tried again until
// that one is back, and both are repaired.
func TestRepairLate(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		next := c.sealSome(t, p, 0, 3)
		both := []*member{c.leader(), c.followers()[0]}
		last := other(c, both[0], both[1])
		c.settle(c.followers()...)
		c.stop(last.id)
		for i, m := range both {
			flipFile(t, one(t, segmentOf(t, m, 2), "*.vlog"), 100+int64(i), 3)
			if s, err := m.Log.VerifySegment(t.Context(), second, 0); err != nil || s.Fault == "" {
				t.Fatalf("%+v, %v", s, err)
			}
		}
		links := c.segments.fetched(both[0].id)
		time.Sleep(30 * time.Minute)
		if !both[0].Log.NeedsRepair() || !both[1].Log.NeedsRepair() {
			t.Fatal("repaired from a damaged segment")
		}
		if got := c.segments.fetched(both[0].id) - links; got > 64<<10 {
			t.Errorf("%d bytes were read in half an hour", got)
		}
		c.start(last.id)
		for _, m := range both {
			c.repaired(m)
			m.holds(t, p, next)
			c.whole(m)
		}
		c.same(c.everybody()...)
	})
}

// TestRepairMergedElsewhere: a follower has merged what the leader has not, and the other way round.
func TestRepairMergedElsewhere(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		n := c.leader()
		hold := n.Log.Hold()
		next := c.sealSome(t, p, 0, 10)
		c.settle(c.followers()...)
		for _, m := range c.followers() {
			for len(m.Log.Status()) > 4 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		away := c.followers()[0] // else the one that is repaired takes the other's, which is the same
		c.cutOff(away.id)
		to := c.followers()[0]
		flipFile(t, one(t, segmentOf(t, to, 1), "*.vlog"), 100, 3)
		c.scrubbed(to)
		c.repaired(to)
		to.holds(t, p, next)
		c.whole(to)
		c.heal()
		c.cutOff(to.id)
		n = c.leader()
		flipFile(t, one(t, segmentOf(t, n, 2), "*.sst"), 100, 3)
		c.scrubbed(n)
		time.Sleep(time.Minute)
		if !n.Log.NeedsRepair() {
			t.Error("segments that somebody copies were taken away")
		}
		hold.Release()
		c.repaired(n)
		n.holds(t, p, next)
		c.whole(n)
		c.heal()
		c.sameState(c.everybody()...)
	})
}

// one finds the one file of a pattern.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %q, %v", pattern, names, err)
	}
	return names[0]
}

func mustRemove(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Lstat(name); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// TestRepairOverTLS: nodes as a program runs them, over links of mutual TLS.
func TestRepairOverTLS(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		p := createTopic(t, n.Group, "orders")
		for i := range 3 {
			n.fill(t, p, i*10, i*10+10)
			if err := n.Group.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.settle()
		for _, m := range f.nodes {
			if err := m.Log.WaitSealed(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
		}
		id := string(n.id) // the leader: another one leads when it is stopped
		f.stop(id)
		flipFile(t, filepath.Join(f.dir(id), "storage", "segments", second, storage.SealedFile), 30, 2)
		flipFile(t, one(t, filepath.Join(f.dir(id), "storage", "segments", "0000000001-0000000001"), "*.vlog"), 100, 2)
		m := f.start(id)
		f.settle()
		c := &crew{t: t, root: f.root}
		c.scrubbed(m)
		c.repaired(m)
		m.holds(t, p, 30)
		c.whole(m)
		f.same()
	})
}

// TestRepairUnderLoad: records are published and segments cut, merged and trimmed all the time while one node's are damaged
// again and again. It ends with what the others have.
func TestRepairUnderLoad(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		next, low := c.sealSome(t, p, 0, 3), 0
		r := seeded(t)
		for round := range lane.Pick(2, 6, 100) {
			m := c.everybody()[r.IntN(3)]
			c.settle(c.everybody()...)
			var sealed []storage.SegmentStatus
			for _, s := range m.Log.Status() {
				if s.State == storage.StateSealed {
					sealed = append(sealed, s)
				}
			}
			s := sealed[r.IntN(len(sealed))]
			flipFile(t, one(t, s.Dir, []string{"MANIFEST", "*.sst"}[r.IntN(2)]), 10, 3)
			m.Log.Scrub()
			for range 3 {
				c.leader().fill(t, p, next, next+7)
				next += 7
				if err := c.leader().Group.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if round%2 == 1 {
				low += 15
				if _, _, err := c.leader().Group.Do(t.Context(), state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: p, Low: topic.Offset(low)}}})); err != nil {
					t.Fatal(err)
				}
			}
			c.settle(c.everybody()...)
			c.scrubbed(m)
			c.repaired(m)
			c.whole(m)
		}
		for _, m := range c.everybody() {
			got, after, _, err := m.Log.Read(p, topic.Offset(low), 64<<20, nil)
			for err == nil && after < topic.Offset(next) {
				got, after, _, err = m.Log.Read(p, after, 64<<20, got)
			}
			if want := bytes.Count(got, []byte("body ")); err != nil || want < next-low {
				t.Errorf("%s: %d records from %d to %d, %v", m.id, want, low, next, err)
			}
		}
		if d := c.leader().Group.Digest(); c.nodes["n1"].Group.Digest() != d || c.nodes["n2"].Group.Digest() != d || c.nodes["n3"].Group.Digest() != d {
			t.Error("other states")
		}
	})
}
