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
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

const smallSegment = storage.SegmentBytesMin

// fillTopic publishes batches from..to-1, whose bodies are crashBody of their number, and waits for each.
func fillTopic(t testing.TB, n *clustertest.Node, p topic.PartitionID, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r, _, err := n.Group.Do(t.Context(), publish(p, 1, uint64(i), crashBody(i)))
		if err != nil || r.Status != state.StatusOK || r.Offset != topic.Offset(i) {
			t.Fatalf("publish %d: %+v, %v", i, r, err)
		}
	}
}

// checkTopic reads records low to next-1 and compares them with crashBody.
func checkTopic(t testing.TB, n *clustertest.Node, p topic.PartitionID, low, next int) {
	t.Helper()
	for at := topic.Offset(low); at < topic.Offset(next); {
		data, after, _, err := n.Log.Read(p, at, 1<<20, nil)
		if err != nil || after == at {
			t.Fatalf("read at %d: %d, %v", at, after, err)
		}
		var b batch.Batch
		for len(data) > 0 {
			if data, err = batch.Parse(data, &b); err != nil {
				t.Fatal(err)
			}
			var r batch.Record
			for c, i := batch.Records(b.Records), b.Base; c.Next(&r); i++ {
				if !bytes.Equal(r.Body, crashBody(int(i))) {
					t.Fatalf("record %d has other bytes", i)
				}
			}
		}
		at = after
	}
}

// TestSegments publishes ten segments' worth: they are cut and sealed, the raft log is dropped behind them, and a restart
// takes the state from the newest one and replays only what is behind it.
func TestSegments(t *testing.T) {
	dir := t.TempDir()
	n, err := clustertest.OpenWith(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) }, smallSegment)
	if err != nil {
		t.Fatal(err)
	}
	p := createTopic(t, n.Group, "orders")
	const records = 1300 // of 32 KiB: more entries than stay behind a sealed point
	fillTopic(t, n, p, 0, records)
	if err := n.Group.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := n.Group.View().Segment() - 1
	if err := n.Log.WaitSealed(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	h, _ := n.Log.Head()
	if s := n.Group.Status(); last < 30 || h.Number != last || s.First == 1 || s.First > h.From || s.First+1024 > h.Point.Index {
		t.Errorf("%d segments, head %+v, log from %d to %d", last, h, s.First, s.Last)
	}
	checkTopic(t, n, p, 0, records)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}

	n = clustertest.StartWith(t, dir, smallSegment)
	checkTopic(t, n, p, 0, records)
	if r, _, err := n.Group.Do(t.Context(), publish(p, 1, records-1, crashBody(records-1))); err != nil || r.Status != state.StatusDuplicate || r.Offset != records-1 {
		t.Errorf("a repeat after the restart: %+v, %v: the checkpoint has no producers", r, err)
	}
	fillTopic(t, n, p, records, records+50)
	checkTopic(t, n, p, 0, records+50)
}

// TestAge: a segment with data is cut after an hour, one without is not.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.Start(t, t.TempDir())
		p := createTopic(t, n.Group, "orders")
		fillTopic(t, n, p, 0, 1)
		before := n.Group.View().Segment()
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if got := n.Group.View().Segment(); got != before {
			t.Errorf("segment %d after 59 minutes, want %d", got, before)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := n.Group.View().Segment(); got != before+1 {
			t.Errorf("segment %d after an hour, want %d", got, before+1)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if got := n.Group.View().Segment(); got != before+1 {
			t.Errorf("empty segments were cut: %d", got)
		}
	})
}

// sealedNode makes a data folder with two sealed segments, and returns the raft log's folder.
func sealedNode(t *testing.T) (dir string, p topic.PartitionID, head storage.Head) {
	t.Helper()
	dir = t.TempDir()
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	p = createTopic(t, n.Group, "orders")
	for i := range 2 {
		fillTopic(t, n, p, 10*i, 10*i+10)
		if err := n.Group.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Log.WaitSealed(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	fillTopic(t, n, p, 20, 25)
	head, _ = n.Log.Head()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	return dir, p, head
}

// open starts on a folder and expects to be refused.
func refusedStart(t *testing.T, dir, why string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	n, err := clustertest.Open(ctx, dir, func(error) {})
	if err == nil {
		n.Stop()
	}
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("start: %v, want %q", err, why)
	}
}

// editLog changes the raft log of a stopped node.
func editLog(t *testing.T, dir string, edit func(*wal.WAL) error) {
	t.Helper()
	w, err := cluster.OpenWAL(filepath.Join(dir, "raft"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(edit(w), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLogDoesNotFit is reference rule 8: a raft log that lost entries which the segments have, or that lacks
// what follows them, refuses to start and says what is missing.
func TestLogDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(w *wal.WAL, sealed, last uint64) error
		why  string
	}{
		"ends before the point": {func(w *wal.WAL, sealed, last uint64) error { return w.DeleteRange(sealed, last) }, "acknowledged entries are lost"},
		"is empty":              {func(w *wal.WAL, _, last uint64) error { return w.DeleteRange(1, last) }, "acknowledged entries are lost"},
		"begins behind the point": {func(w *wal.WAL, sealed, _ uint64) error { return w.DeleteRange(1, sealed+1) },
			"the ones between are lost"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, h := sealedNode(t)
			editLog(t, dir, func(w *wal.WAL) error {
				last, err := w.LastIndex()
				return errors.Join(err, c.edit(w, h.Point.Index, last))
			})
			refusedStart(t, dir, c.why)
		})
	}
}

// TestSegmentLost: without its newest segment a node starts from the one before and the raft log, which still has
// its entries; without an older one it says which records are missing.
func TestSegmentLost(t *testing.T) {
	dir, p, _ := sealedNode(t)
	segment := func(n int) string {
		return filepath.Join(dir, "storage", "segments", fmt.Sprintf("%010d-%010d", n, n))
	}
	if err := os.RemoveAll(segment(2)); err != nil {
		t.Fatal(err)
	}
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	checkTopic(t, n, p, 0, 25)
	if err := n.Log.WaitSealed(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(segment(1)); err != nil {
		t.Fatal(err)
	}
	refusedStart(t, dir, "records 0 to 9 are in no segment")
	refusedStart(t, dir, "restore the data folder from a backup")
}

// TestHeadDamaged: the checkpoint of a damaged segment is not believed.
func TestHeadDamaged(t *testing.T) {
	dir, _, _ := sealedNode(t)
	name := filepath.Join(dir, "storage", "segments", "0000000002-0000000002", "MANIFEST")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedStart(t, dir, "CRC-32C of MANIFEST")
	refusedStart(t, dir, "move its folder "+filepath.Dir(name)+" out of the data folder")
}

// TestSnapshotRules holds the store and the snapshot list against reference rules 2 to 5 and 9.
func TestSnapshotRules(t *testing.T) {
	dir, _, h := sealedNode(t)
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	list, err := cluster.Snapshots(log).List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v: want exactly one snapshot", list, err)
	}
	m := list[0]
	if m.Index != h.Point.Index || m.Term != h.Point.Term || m.Version != 1 || m.ConfigurationIndex != 1 || len(m.Configuration.Servers) != 1 || m.Configuration.Servers[0].ID != "n1" {
		t.Errorf("snapshot %+v of head %+v", m, h)
	}

	var failed error
	s, err := cluster.OpenStoreOf(filepath.Join(dir, "raft"), log, func(err error) { failed = err })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.IsMonotonic() {
		t.Error("the store hides that it is monotonic: raft would leave a gap after an install")
	}
	var at raft.Log
	if err := s.GetLog(h.Point.Index, &at); err != nil || at.Type != raft.LogCommand {
		t.Errorf("the entry of the sealed point is gone: %+v, %v", at, err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(last, last); err != nil || failed != nil {
		t.Errorf("cut of a tail: %v, %v", err, failed)
	}
	if err := s.DeleteRange(1, h.Point.Index); err == nil || failed == nil {
		t.Error("raft could delete entries that the segments need")
	}
	if err := s.StoreLog(entryAt(last)); err == nil {
		t.Error("the log goes on after a forbidden delete")
	}
}
