package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// The rules that make a sealed segment raft's snapshot, with the nodes that each is about. DESIGN.md has the table: rule, code, test.

var three = []raft.ServerID{"n1", "n2", "n3"}

func smallBody(i int) []byte { return fmt.Append(nil, "body ", i) }

// holds reads records 0 to next-1 of a member and compares them with smallBody.
func (m *member) holds(t *testing.T, p topic.PartitionID, next int) {
	t.Helper()
	m.holdsAll(t, p, next, smallBody)
}

// holdsBig is holds for crashBody.
func (m *member) holdsBig(t *testing.T, p topic.PartitionID, next int) {
	t.Helper()
	m.holdsAll(t, p, next, crashBody)
}

func (m *member) holdsAll(t *testing.T, p topic.PartitionID, next int, body func(int) []byte) {
	t.Helper()
	if end := m.Log.End(p); end != topic.Offset(next) {
		t.Errorf("%s ends at record %d, want %d", m.id, end, next)
		return
	}
	for at := topic.Offset(0); at < topic.Offset(next); {
		data, after, _, err := m.Log.Read(p, at, 1<<20, nil)
		if err != nil || after == at {
			t.Fatalf("%s: read at %d: %d, %v", m.id, at, after, err)
		}
		var b batch.Batch
		for len(data) > 0 {
			if data, err = batch.Parse(data, &b); err != nil {
				t.Fatal(err)
			}
			var r batch.Record
			for c, i := batch.Records(b.Records), b.Base; c.Next(&r); i++ {
				if !bytes.Equal(r.Body, body(int(i))) {
					t.Fatalf("%s: record %d is %q", m.id, i, r.Body)
				}
			}
		}
		at = after
	}
}

// same compares the states of members and their sealed segments.
func (c *crew) same(nodes ...*member) {
	c.t.Helper()
	c.settle(nodes...)
	want := segmentSums(c.t, nodes[0].Log)
	for _, m := range nodes[1:] {
		if m.Group.Digest() != nodes[0].Group.Digest() {
			c.t.Errorf("%s and %s have other states", m.id, nodes[0].id)
		}
		if got := segmentSums(c.t, m.Log); got != want {
			c.t.Errorf("segments of %s:\n%s\nof %s:\n%s", m.id, got, nodes[0].id, want)
		}
	}
}

// segmentSums tells what is in each sealed segment.
func segmentSums(t *testing.T, log *storage.Log) (s string) {
	t.Helper()
	for _, st := range log.Status() {
		if st.State == storage.StateSealed {
			s += fmt.Sprintln(st.First, st.Last, st.From, st.Index, st.Contents.Batches, st.Contents.Records, st.Contents.Bytes, st.Contents.Sum)
		}
	}
	return s
}

// TestRule1TailCut: a leader that was cut off has entries that were never committed, some in the file that also holds
// older ones. Its follower life cuts them; it opens again, and every older entry can be read (raft-wal v0.4.0 could not).
func TestRule1TailCut(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		old := c.leader()
		p := createTopic(t, old.Group, "orders")
		old.fill(t, p, 0, 20)
		c.settle(c.followers()...)
		c.cutOff(old.id)
		for i := range 10 {
			old.Group.Propose(publish(p, 9, uint64(i), []byte("never committed")), func(_ state.Result, _ uint64, err error) {
				if err == nil {
					t.Error("a leader without followers acknowledged a record")
				}
			})
		}
		tail := old.Group.Raft().LastIndex()
		c.leader().fill(t, p, 20, 60)
		c.heal()
		c.settle(old)
		if last := old.Group.Raft().LastIndex(); last <= tail || c.installs() != 0 {
			t.Errorf("the tail up to %d stands, the log ends at %d; %d installs", tail, last, c.installs())
		}
		c.stop(old.id)
		again := c.start(old.id)
		c.settle(again)
		first, last := bounds(t, again.Group.Store())
		for i := first; i <= last; i++ {
			if err := again.Group.Store().GetLog(i, new(raft.Log)); err != nil {
				t.Fatalf("entry %d of %d to %d after the cut and a start: %v", i, first, last, err)
			}
		}
		again.holds(t, p, 60)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
	})
}

func bounds(t *testing.T, s cluster.Store) (first, last uint64) {
	t.Helper()
	first, err := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return first, last
}

// TestRule2NoSnapshotOfRafts: raft never takes a snapshot, is never asked to restore one, and what could make it drop
// the log (Snapshot, Restore, RecoverCluster) ends before anything is gone.
func TestRule2NoSnapshotOfRafts(t *testing.T) {
	conf := cluster.RaftConfig("n1")
	if conf.SnapshotThreshold != 1<<62 || conf.SnapshotInterval < time.Hour || conf.NoSnapshotRestoreOnStart || conf.RestoreCommittedLogs {
		t.Errorf("raft would take snapshots, or not restore them: %+v", conf)
	}
	inCrew(t, []raft.ServerID{"n1"}, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 5)
		h := c.seal()
		n.fill(t, p, 5, 9)
		first, last := bounds(t, n.Group.Store())
		if err := n.Group.Raft().Snapshot().Error(); !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			t.Errorf("a snapshot by raft: %v", err)
		}
		meta := &raft.SnapshotMeta{Version: 1, Index: 3, Term: 1}
		if err := n.Group.Raft().Restore(meta, strings.NewReader(""), 0); err == nil {
			t.Error("raft restored a foreign snapshot")
		}
		if f, l := bounds(t, n.Group.Store()); f != first || l < last {
			t.Errorf("the log was %d to %d, is %d to %d", first, last, f, l)
		}
		n = c.leader()
		n.fill(t, p, 9, 12)
		c.stop("n1")
		recoverFails(t, c, h)
		n = c.start("n1")
		c.leader()
		n.holds(t, p, 12)
	})
	for _, name := range productFiles(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"RecoverCluster(", "raft.Restore(", "RestoreCommittedLogs = true", "NoSnapshotRestoreOnStart = true"} {
			if bytes.Contains(text, []byte(call)) {
				t.Errorf("%s calls %s", name, call)
			}
		}
	}
}

func productFiles(t *testing.T) (list []string) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 10 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			list = append(list, name)
		}
	}
	return list
}

// recoverFails runs raft.RecoverCluster on a stopped node: it must end before it deletes the log.
func recoverFails(t *testing.T, c *crew, h storage.Head) {
	t.Helper()
	log, err := storage.Open(storage.Options{Dir: filepath.Join(c.dir("n1"), "storage")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s, err := cluster.OpenStoreOf(filepath.Join(c.dir("n1"), "raft"), log, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, last := bounds(t, s)
	_, transport := raft.NewInmemTransport("n1")
	err = raft.RecoverCluster(cluster.RaftConfig("n1"), cluster.NewFSM(log), s, s, cluster.Snapshots(log), transport, raft.Configuration{Servers: c.servers()})
	if err == nil {
		t.Error("RecoverCluster worked: it would lose everything behind the sealed point")
	}
	if _, l := bounds(t, s); l != last || last <= h.Point.Index {
		t.Errorf("RecoverCluster: the log ended at %d, ends at %d", last, l)
	}
}

// TestRule3Membership: the snapshot names the last members at or before X and their entry, not those after it; a start
// finds both.
func TestRule3Membership(t *testing.T) {
	inCrew(t, []raft.ServerID{"n1", "n2"}, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 5)
		below := n.Group.Raft().AddNonvoter("below", "below", 0, 0)
		if err := below.Error(); err != nil {
			t.Fatal(err)
		}
		h := c.seal(c.followers()...)
		above := n.Group.Raft().AddNonvoter("above", "above", 0, 0)
		if err := above.Error(); err != nil {
			t.Fatal(err)
		}
		c.settle(c.followers()...)
		if below.Index() >= h.Point.Index || above.Index() <= h.Point.Index {
			t.Fatalf("members changed at %d and %d, cut at %d: the test proves nothing", below.Index(), above.Index(), h.Point.Index)
		}
		for _, id := range c.ids {
			m := c.nodes[id]
			checkMembersAt(t, m, h, below.Index())
			c.stop(id)
			checkSnapshotOnDisk(t, c.dir(id), h, below.Index())
		}
		for _, id := range c.ids {
			c.start(id)
		}
		c.leader()
		for _, m := range c.nodes {
			f := m.Group.Raft().GetConfiguration()
			if err := f.Error(); err != nil || fmt.Sprint(serverIDs(f.Configuration())) != "[n1 n2 below above]" {
				t.Errorf("%s: members after a start %v, %v", m.id, serverIDs(f.Configuration()), err)
			}
			checkMembersAt(t, m, h, below.Index())
		}
		// The next cut must have the later ones, though the start took the earlier ones from the checkpoint.
		h2 := c.seal(c.followers()...)
		list, err := cluster.Snapshots(c.leader().Log).List()
		if err != nil || len(list) != 1 || list[0].Index != h2.Point.Index || list[0].ConfigurationIndex != above.Index() {
			t.Errorf("snapshot after the next cut: %+v, %v", list, err)
		}
	})
}

func serverIDs(c raft.Configuration) (ids []raft.ServerID) {
	for _, s := range c.Servers {
		ids = append(ids, s.ID)
	}
	return ids
}

// checkMembersAt holds a node's one snapshot against its head.
func checkMembersAt(t *testing.T, m *member, h storage.Head, configured uint64) {
	t.Helper()
	list, err := cluster.Snapshots(m.Log).List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %v, %v: want one snapshot", m.id, list, err)
	}
	if s := list[0]; s.Version != 1 || s.Index != h.Point.Index || s.Term != h.Point.Term || s.ConfigurationIndex != configured || fmt.Sprint(serverIDs(s.Configuration)) != "[n1 n2 below]" {
		t.Errorf("%s: snapshot %+v of the cut at %d, members of entry %d", m.id, s, h.Point.Index, configured)
	}
}

// checkSnapshotOnDisk: a stopped node's segments say the same.
func checkSnapshotOnDisk(t *testing.T, dir string, h storage.Head, configured uint64) {
	t.Helper()
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	checkMembersAt(t, &member{id: raft.ServerID(filepath.Base(dir)), Log: log}, h, configured)
}

// TestRule4Window: a follower that was away, but not for longer than the window, gets what it missed as entries, after
// the leader dropped its log behind a sealed segment. Entry X itself is there. All replicas sealed the same.
func TestRule4Window(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 10)
		c.seal(c.followers()...)
		n.pad(t, cluster.LogWindow+200)
		h := c.seal(c.followers()...)
		first, _ := bounds(t, n.Group.Store())
		if first == 1 || first > h.Point.Index-cluster.LogWindow || first >= h.From {
			t.Fatalf("the log begins at %d, sealed are %d to %d: dropped too much or nothing", first, h.From, h.Point.Index)
		}
		var at raft.Log
		if err := n.Group.Store().GetLog(h.Point.Index, &at); err != nil || at.Type != raft.LogCommand || at.Term != h.Point.Term {
			t.Errorf("entry X: %+v, %v", at, err)
		}
		away := c.followers()[0]
		c.settle(away)
		c.cutOff(away.id)
		n = c.leader()
		n.fill(t, p, 10, 20)
		n.pad(t, cluster.LogWindow/2)
		c.seal(c.followers()...)
		n.fill(t, p, 20, 30)
		c.heal()
		c.settle(away)
		if got := c.installs(); got != 0 {
			t.Errorf("%d installs for a follower within the window", got)
		}
		c.seal(c.followers()...)
		away.holds(t, p, 30)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
	})
}

// TestRule4BehindWindow: a follower was away for longer than the window, and nobody can give it the segments. The install
// is refused before anything is touched, tried again at a bounded rate, by a new leader as well; the others go on, and the
// follower keeps what it has, over a restart too. Once links carry something it is filled.
func TestRule4BehindWindow(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 10)
		away := c.followers()[0]
		c.settle(away)
		c.cutOff(away.id)
		had, _ := away.Log.Head()
		applied, digest := away.Group.Raft().AppliedIndex(), away.Group.Digest()
		n = c.leader()
		for range 2 {
			n.pad(t, cluster.LogWindow)
			c.seal(c.followers()...)
		}
		if first, _ := bounds(t, n.Group.Store()); first <= applied+1 {
			t.Fatalf("the log begins at %d, the follower ends at %d: the test proves nothing", first, applied)
		}
		c.deadLinks()
		c.heal()
		c.refusedInstalls(5 * time.Minute)
		leader := c.leader()
		if err := leader.Group.Raft().LeadershipTransferToServer(other(c, leader, away).id, raft.ServerAddress(other(c, leader, away).id)).Error(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if c.leader() == leader {
			t.Fatal("leadership did not change")
		}
		c.refusedInstalls(5 * time.Minute)
		c.leader().fill(t, p, 10, 20)
		c.seal()
		if h, _ := away.Log.Head(); h.Number != had.Number || away.Group.Raft().AppliedIndex() != applied || away.Group.Digest() != digest {
			t.Errorf("the follower changed: head %+v, applied %d", h, away.Group.Raft().AppliedIndex())
		}
		_, last := bounds(t, away.Group.Store())
		c.stop(away.id)
		away = c.start(away.id) // it learns what is committed from a leader that can send it entries: here from none
		time.Sleep(10 * time.Second)
		if _, l := bounds(t, away.Group.Store()); l != last {
			t.Errorf("the follower's log ended at %d, ends at %d", last, l)
		}
		c.leader().holds(t, p, 20)
		c.segments.setWrap(nil)
		c.settle(away)
		c.seal(c.followers()...)
		away.holds(t, p, 20)
		c.sameState(c.everybody()...)
	})
}

func other(c *crew, not ...*member) *member {
	for _, id := range c.ids {
		m := c.nodes[id]
		if m != not[0] && m != not[1] {
			return m
		}
	}
	return nil
}

// refusedInstalls: within a time there were attempts to install, but few. Endless loops did tens of thousands a second.
func (c *crew) refusedInstalls(within time.Duration) {
	c.t.Helper()
	before := c.installs()
	time.Sleep(within)
	if got := c.installs() - before; got == 0 || got > 60 {
		c.t.Errorf("%d installs within %v", got, within)
	}
}

// TestRule5StaleTail: a leader that was cut off wrote beyond X of the others and was never heard. With the window
// below X it heals by cutting its tail; without it this is an endless loop of installs.
func TestRule5StaleTail(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		old := c.leader()
		p := createTopic(t, old.Group, "orders")
		old.fill(t, p, 0, 10)
		old.pad(t, cluster.LogWindow)
		h0 := c.seal(c.followers()...)
		c.settle(c.followers()...)
		c.cutOff(old.id)
		for range 200 {
			old.Group.Raft().Apply(state.AppendEntryHeader(nil, 1), 0)
		}
		n := c.leader()
		n.fill(t, p, 10, 20)
		n.pad(t, 50)
		h := c.seal(c.followers()...)
		if tail := old.Group.Raft().LastIndex(); tail <= h.Point.Index || h.Point.Index <= h0.Point.Index {
			t.Fatalf("the stale tail ends at %d, the others have sealed up to %d: the test proves nothing", tail, h.Point.Index)
		}
		c.heal()
		c.settle(old)
		if got := c.installs(); got != 0 {
			t.Errorf("%d installs for a stale tail", got)
		}
		c.seal(c.followers()...)
		old.holds(t, p, 20)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
	})
}

// TestRule6LateInstall: an install that comes late, below the commit index of a follower, and one ahead of it are
// refused before anything is written.
func TestRule6LateInstall(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 10)
		h := c.seal(c.followers()...)
		n.fill(t, p, 10, 20)
		to := c.followers()[0]
		c.settle(to)
		first, last := bounds(t, to.Group.Store())
		digest, files := to.Group.Digest(), listFiles(t, filepath.Join(c.dir(to.id), "storage"))
		conf := raft.EncodeConfiguration(raft.Configuration{Servers: c.servers()})
		for _, index := range []uint64{h.Point.Index - 3, h.Point.Index, last + 100} {
			req := &raft.InstallSnapshotRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(n.id), Addr: []byte(n.id)}, SnapshotVersion: 1,
				Term: n.Group.Raft().CurrentTerm(), LastLogIndex: index, LastLogTerm: h.Point.Term, Configuration: conf, ConfigurationIndex: 1, Size: 4}
			var resp raft.InstallSnapshotResponse
			err := n.link.InstallSnapshot(to.id, raft.ServerAddress(to.id), req, &resp, strings.NewReader("data"))
			if err == nil || resp.Success {
				t.Errorf("install at %d: %+v, %v", index, resp, err)
			}
		}
		if f, l := bounds(t, to.Group.Store()); f != first || l < last || to.Group.Digest() != digest || listFiles(t, filepath.Join(c.dir(to.id), "storage")) != files {
			t.Errorf("an install that was refused changed the node: log %d to %d, was %d to %d", f, l, first, last)
		}
		n.fill(t, p, 20, 30)
		c.settle(to)
		to.holds(t, p, 30)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
	})
}

// listFiles names every segment's folder.
func listFiles(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

// TestRule8Start is the table of what a start refuses beside TestLogDoesNotFit: an entry X of another term, and damage
// in what must be replayed.
func TestRule8Start(t *testing.T) {
	t.Run("entry X has another term", func(t *testing.T) {
		dir, _, h := sealedNode(t)
		editLog(t, dir, func(w *wal.WAL) error {
			last, err := w.LastIndex()
			if err := errors.Join(err, w.DeleteRange(h.Point.Index, last)); err != nil {
				return err
			}
			l := entryAt(h.Point.Index)
			l.Term = h.Point.Term + 1
			return w.StoreLog(cluster.Sealed(l))
		})
		refusedStart(t, dir, "they do not belong together")
	})
	t.Run("damage behind X", func(t *testing.T) {
		dir, _, _ := sealedNode(t)
		flip(t, filepath.Join(dir, "raft"), crashBody(21))
		refusedStart(t, dir, "CRC-32C of entry")
	})
	t.Run("damage in entry X", func(t *testing.T) {
		dir, _, h := sealedNode(t)
		var at raft.Log
		editLog(t, dir, func(w *wal.WAL) error { return w.GetLog(h.Point.Index, &at) })
		flip(t, filepath.Join(dir, "raft"), at.Data)
		refusedStart(t, dir, "CRC-32C of entry")
	})
}

// TestRule9EntryX: where the log begins behind X, the store still knows the entry of X, its term and that it is nothing to
// apply; what is below and what is behind is unknown.
func TestRule9EntryX(t *testing.T) {
	dir, _, h := sealedNode(t)
	editLog(t, dir, func(w *wal.WAL) error { return w.DeleteRange(1, h.Point.Index) })
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s, err := cluster.OpenStoreOf(filepath.Join(dir, "raft"), log, func(err error) { t.Errorf("fail-stop: %v", err) })
	if !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("a log that begins behind X, which no install made: %v", err)
	}
	defer s.Close()
	cache, err := raft.NewLogCache(4, s)
	if err != nil {
		t.Fatal(err)
	}
	var at raft.Log
	if err := cache.GetLog(h.Point.Index, &at); err != nil || at.Index != h.Point.Index || at.Term != h.Point.Term || at.Type != raft.LogNoop || at.Data != nil {
		t.Errorf("entry X: %+v, %v", at, err)
	}
	for _, i := range []uint64{0, 1, h.Point.Index - 1, h.Point.Index + 1000} {
		if err := cache.GetLog(i, &at); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares with ==
			t.Errorf("entry %d: %v, want raft.ErrLogNotFound itself", i, err)
		}
	}
	if err := cache.GetLog(h.Point.Index+1, &at); err != nil || at.Index != h.Point.Index+1 {
		t.Errorf("entry X+1: %+v, %v", at, err)
	}
}

// TestReplicaRestart: each of three replicas stops and starts in turn, with records in between; none is lost, and
// nothing is installed.
func TestReplicaRestart(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		at := 0
		for range 2 {
			for _, id := range c.ids {
				c.leader().fill(t, p, at, at+5)
				c.stop(id)
				c.leader().fill(t, p, at+5, at+10)
				c.seal()
				c.start(id)
				at += 10
				c.settle(c.nodes[id])
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, m := range c.nodes {
			if err := m.Log.WaitSealed(ctx, c.leader().Group.View().Segment()-1); err != nil {
				t.Fatal(err)
			}
			m.holds(t, p, at)
		}
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
		if c.installs() != 0 {
			t.Errorf("%d installs", c.installs())
		}
	})
}
