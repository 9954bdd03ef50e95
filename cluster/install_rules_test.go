package cluster_test

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/state"
)

// deadLinks lets nobody fetch anything.
func (c *crew) deadLinks() {
	c.segments.setWrap(func(_ raft.ServerID, conn net.Conn) net.Conn { return &cutter{conn, new(atomic.Int64)} })
}

// TestRule4OpenSnapshot: from the first attempt of an install on the leader keeps the log behind its X, whatever is sealed
// meanwhile, and every segment; when nobody asks any more they go.
func TestRule4OpenSnapshot(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		c.away(t, p, to.id, 0, 2)
		c.deadLinks()
		c.heal()
		for c.installs() == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		leader := c.leader()
		x, _ := leader.Log.Head()
		for range 3 {
			leader.pad(t, 2*cluster.LogWindow)
			c.seal()
		}
		if first, _ := bounds(t, leader.Group.Store()); first > x.Point.Index+1 || c.leader() != leader {
			t.Errorf("the log begins at %d, a snapshot of entry %d is open", first, x.Point.Index)
		}
		c.cutOff(to.id)
		time.Sleep(2 * time.Minute)
		leader.pad(t, 10)
		c.seal()
		if first, _ := bounds(t, leader.Group.Store()); first <= x.Point.Index+1 || c.leader() != leader {
			t.Errorf("the log begins at %d, although nobody asks for a snapshot any more", first)
		}
		c.segments.setWrap(nil)
		c.heal()
		c.settle(to)
		c.seal(c.followers()...)
		c.sameState(c.everybody()...)
	})
}

// failures collects fail-stops instead of failing the test. Whoever failed does nothing more, like a process that ends.
func (c *crew) failures() (failed chan error) {
	failed = make(chan error, 10)
	c.fail = func(_ raft.ServerID, err error) {
		failed <- err
		runtime.Goexit()
	}
	return failed
}

// TestRule5Wipe: the wipe of the log behind an install fails, or the node dies behind it, or before it: the log is that of
// before the install. That is a fail-stop, and the next start makes it right (rule 8).
func TestRule5Wipe(t *testing.T) {
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		t.Run(string(action), func(t *testing.T) {
			inCrew(t, three, func(t *testing.T, c *crew) {
				defer fault.Disarm()
				p := createTopic(t, c.leader().Group, "orders")
				to := c.followers()[0]
				c.settle(to)
				c.away(t, p, to.id, 0, 2)
				_, before := bounds(t, to.Group.Store())
				failed := c.failures()
				fault.Arm("raft.wipe", action, 1)
				c.heal()
				if err := <-failed; !errors.Is(err, fault.ErrInjected) {
					t.Fatal(err)
				}
				if first, last := bounds(t, to.Group.Store()); (last == before) != (action == fault.Error) || (last == 0) != (action == fault.ErrorDone) {
					t.Errorf("the log is %d to %d, it ended at %d", first, last, before)
				}
				_ = to.stop()
				delete(c.nodes, to.id)
				c.wire()
				fault.Disarm()
				c.fail = nil
				to = c.start(to.id)
				h, _ := to.Log.Head()
				if first, last := bounds(t, to.Group.Store()); !h.Installed || last > 0 && first != h.Point.Index+1 {
					t.Errorf("head %+v, log %d to %d", h, first, last)
				}
				c.settle(to)
				c.leader().big(t, p, 64, 70)
				c.seal(c.followers()...)
				c.same(c.everybody()...)
			})
		})
	}
}

// TestRule5TailBeyond: the install takes entries from behind its own X, which were never committed. raft would go on
// believing in them, so the node ends, and is right after a start.
func TestRule5TailBeyond(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		old := c.leader()
		p := createTopic(t, old.Group, "orders")
		c.settle(c.followers()...)
		c.cutOff(old.id)
		for range 6 * cluster.LogWindow {
			old.Group.Raft().Apply(state.AppendEntryHeader(nil, 1), 0)
		}
		n := c.leader()
		for i := range 2 {
			n.big(t, p, 8*i, 8*i+8)
			n.pad(t, 3*cluster.LogWindow/2)
			c.seal(c.followers()...)
		}
		x, _ := n.Log.Head()
		if _, last := bounds(t, old.Group.Store()); last <= x.Point.Index+cluster.LogWindow {
			t.Fatalf("the tail ends at %d, sealed are entries up to %d: the test proves nothing", last, x.Point.Index)
		}
		failed := c.failures()
		c.heal()
		if err := <-failed; !strings.Contains(err.Error(), "start the node again") {
			t.Fatal(err)
		}
		_ = old.stop()
		delete(c.nodes, old.id)
		c.wire()
		c.fail = nil
		old = c.start(old.id)
		before, fetched := c.installs(), c.segments.fetched(old.id)
		c.settle(old)
		if got := c.installs() - before; got > 1 || c.segments.fetched(old.id) != fetched { // the leader did not hear that it worked
			t.Errorf("%d installs after the start", got)
		}
		c.leader().big(t, p, 16, 20)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// TestRule6Stream: what raft streams must be whole, of the request's cut and members, and ahead; anything else changes nothing.
func TestRule6Stream(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.big(t, p, 0, 4)
		c.seal(c.followers()...)
		late, _ := n.Log.Listing()
		n.big(t, p, 4, 8)
		h := c.seal(c.followers()...)
		n.big(t, p, 8, 12)
		to := c.followers()[0]
		c.settle(to)
		li, _ := n.Log.Listing()
		_, last := bounds(t, to.Group.Store())
		digest, files := to.Group.Digest(), listFiles(t, c.dir(to.id)+"/storage")
		ahead := *li
		ahead.Point.Index = last + 100
		ahead.Segments = append(ahead.Segments[:1:1], li.Segments[1])
		ahead.Segments[1].Index = last + 100
		meta, err := cluster.Snapshots(n.Log).List()
		if err != nil {
			t.Fatal(err)
		}
		text := ahead.Append(nil)
		for name, test := range map[string]struct {
			index  uint64
			stream []byte
			want   string
			conf   uint64
		}{
			"late":           {late.Point.Index, late.Append(nil), "not ahead", meta[0].ConfigurationIndex},
			"the own head":   {h.Point.Index, li.Append(nil), "not ahead", meta[0].ConfigurationIndex},
			"no list":        {last + 100, []byte("data"), "damaged", meta[0].ConfigurationIndex},
			"cut short":      {last + 100, text[:len(text)-1], "damaged", meta[0].ConfigurationIndex},
			"a bit":          {last + 100, append(bytes.Clone(text[:20]), append([]byte{text[20] ^ 4}, text[21:]...)...), "damaged", meta[0].ConfigurationIndex},
			"another cut":    {last + 101, text, "it is of entry", meta[0].ConfigurationIndex},
			"other members":  {last + 100, text, "other members", meta[0].ConfigurationIndex + 1},
			"longer than 16": {last + 100, make([]byte, 17<<20), "more than", meta[0].ConfigurationIndex},
		} {
			req := &raft.InstallSnapshotRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(n.id), Addr: []byte(n.id)}, SnapshotVersion: 1, Term: n.Group.Raft().CurrentTerm(),
				LastLogIndex: test.index, LastLogTerm: h.Point.Term, Configuration: raft.EncodeConfiguration(meta[0].Configuration), ConfigurationIndex: test.conf, Size: int64(len(test.stream))}
			var resp raft.InstallSnapshotResponse
			err := n.link.InstallSnapshot(to.id, raft.ServerAddress(to.id), req, &resp, bytes.NewReader(test.stream))
			if err == nil || resp.Success || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %+v, %v, want %q", name, resp, err, test.want)
			}
		}
		if _, l := bounds(t, to.Group.Store()); l < last || to.Group.Digest() != digest || listFiles(t, c.dir(to.id)+"/storage") != files {
			t.Error("an install that was refused changed the node")
		}
		n.big(t, p, 12, 14)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// TestRule8Installed is what a start says of a log behind an installed head: it may begin right behind X; a hole, and a
// log that lost what it acknowledged, are refused.
func TestRule8Installed(t *testing.T) {
	cut := func(from, to func(first, last uint64) uint64) func(*wal.WAL) error {
		return func(w *wal.WAL) error {
			first, err := w.FirstIndex()
			last, err2 := w.LastIndex()
			return errors.Join(err, err2, w.DeleteRange(from(first, last), to(first, last)))
		}
	}
	first := func(first, _ uint64) uint64 { return first }
	last := func(_, last uint64) uint64 { return last }
	for name, test := range map[string]struct {
		edit func(*wal.WAL) error
		want string // "" = it starts
	}{
		"as it was": {func(*wal.WAL) error { return nil }, ""},
		"a hole":    {cut(first, first), "the ones between are lost"},
		"all lost":  {cut(first, last), "were written and synced"},
	} {
		t.Run(name, func(t *testing.T) {
			inCrew(t, three, func(t *testing.T, c *crew) {
				p := createTopic(t, c.leader().Group, "orders")
				to := c.followers()[0]
				c.settle(to)
				c.away(t, p, to.id, 0, 2)
				c.heal()
				c.settle(to)
				c.leader().big(t, p, 64, 68)
				c.settle(to)
				h, _ := to.Log.Head()
				if first, _ := bounds(t, to.Group.Store()); !h.Installed || first != h.Point.Index+1 {
					t.Fatalf("head %+v, the log begins at %d", h, first)
				}
				c.stop(to.id)
				editLog(t, c.dir(to.id), test.edit)
				to, err := c.open(to.id)
				if test.want != "" {
					if !errors.Is(err, cluster.ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
						t.Errorf("%v, want %q", err, test.want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				c.settle(to)
				c.seal(c.followers()...)
				c.same(c.everybody()...)
			})
		})
	}
}

// TestRule9Conflict: a node that was just installed has not got entry X. It gets X+1 from a leader that is cut off with it,
// never committed, and heals by cutting that, without another install.
func TestRule9Conflict(t *testing.T) {
	five := []raft.ServerID{"n1", "n2", "n3", "n4", "n5"}
	inCrew(t, five, func(t *testing.T, c *crew) {
		old := c.leader()
		p := createTopic(t, old.Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		c.cutOff(to.id)
		for i := range 2 {
			old.big(t, p, 4*i, 4*i+4)
			old.pad(t, cluster.LogWindow)
			c.seal(c.followers()...)
		}
		c.heal()
		h, _ := to.Log.Head()
		for !h.Installed { // leader and settle would write entries behind X
			time.Sleep(10 * time.Millisecond)
			h, _ = to.Log.Head()
		}
		synctest.Wait()
		if first, last := bounds(t, to.Group.Store()); old.Group.Raft().State() != raft.Leader || last != 0 {
			t.Fatalf("head %+v, log %d to %d: the test proves nothing", h, first, last)
		}
		c.side = map[raft.ServerID]int{old.id: 1, to.id: 1}
		c.wire()
		old.Group.Raft().Apply(state.AppendEntryHeader(nil, 1), 0)
		time.Sleep(100 * time.Millisecond)
		if first, last := bounds(t, to.Group.Store()); first != h.Point.Index+1 || last != first {
			t.Fatalf("log %d to %d: the test proves nothing", first, last)
		}
		time.Sleep(time.Minute) // the others elect one, who writes X+1
		before := c.installs()
		c.heal()
		time.Sleep(10 * time.Second)
		c.leader().big(t, p, 8, 10)
		all := []*member{c.nodes["n1"], c.nodes["n2"], c.nodes["n3"], c.nodes["n4"], c.nodes["n5"]}
		c.settle(all...)
		if got := c.installs() - before; got != 0 {
			t.Errorf("%d installs", got)
		}
		var at raft.Log
		if err := to.Group.Store().GetLog(h.Point.Index+1, &at); err != nil || at.Term <= h.Point.Term {
			t.Errorf("entry X+1: %+v, %v: it was not replaced", at, err)
		}
		c.seal(c.followers()...)
		c.same(all...)
	})
}
