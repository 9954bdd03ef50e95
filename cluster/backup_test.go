package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// loaded is a partition that one producer fills; record i is crashBody(i) at offset i.
type loaded struct {
	name     topic.Name
	id       topic.PartitionID
	producer byte

	mu      sync.Mutex
	indexes []uint64 // Guarded by mu. The raft index of each acknowledged record, by offset.
}

// acknowledged is the journal of it.
func (l *loaded) acknowledged() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.indexes)
}

// fill publishes until ctx ends, and signals each acknowledgement.
func (l *loaded) fill(ctx context.Context, t *testing.T, g *cluster.Group, acked chan<- struct{}) {
	for i := 0; ctx.Err() == nil; i++ {
		r, index, err := g.Do(t.Context(), publish(l.id, l.producer, uint64(i), crashBody(i)))
		if err != nil || r.Status != state.StatusOK || r.Offset != topic.Offset(i) {
			t.Errorf("%s: publish %d: %+v, %v", l.name, i, r, err)
			return
		}
		l.mu.Lock()
		l.indexes = append(l.indexes, index)
		l.mu.Unlock()
		select {
		case acked <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// saveSnapshot writes a snapshot of a node to a file.
func saveSnapshot(ctx context.Context, g *cluster.Group, file string) (snapshot.Head, error) {
	e, err := g.Snapshot(ctx, "test")
	if err != nil {
		return snapshot.Head{}, err
	}
	defer e.Close()
	prove := func(r io.Reader) error { _, err := cluster.VerifySnapshot(ctx, r); return err }
	err = storage.WriteBackup(file, false, func(w io.Writer) error { _, err := io.Copy(w, e); return err }, prove)
	return *e.Head(), err
}

// restore makes a data folder of a file, for node n1.
func restore(t testing.TB, file, dir string) (*cluster.Restored, error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return cluster.Restore(t.Context(), cluster.RestoreOptions{File: f, Dir: dir, NodeID: "n1"})
}

// TestB01BackupUnderLoad saves snapshots while three producers publish, topics are held to their limits, and segments are cut,
// sealed, deleted and merged. Each, restored, holds exactly what was acknowledged up to its index, and goes on behind it.
func TestB01BackupUnderLoad(t *testing.T) {
	n := clustertest.StartWith(t, t.TempDir(), smallSegment)
	parts := []*loaded{
		{name: "orders", producer: 1, id: createTopic(t, n.Group, "orders")},
		{name: "few", producer: 2, id: createLimited(t, n.Group, "few", state.Spec{MaxRecords: 20})},
		{name: "small", producer: 3, id: createLimited(t, n.Group, "small", state.Spec{MaxBytes: 1 << 20})},
	}
	gone := createTopic(t, n.Group, "gone")
	fillTopic(t, n, gone, 0, 10)
	do(t, n.Group, state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: "gone", By: "test"}))
	do(t, n.Group, state.AppendSetPolicy(nil, &state.SetPolicy{Reset: true, Document: []byte("bindings: []\n"), By: "test"}))
	do(t, n.Group, state.AppendRevoke(nil, &state.Revoke{Entry: state.Revocation{Kind: state.RevokeIdentity, Value: "spiffe://td/client/lost", By: "test"}}))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	acked := make(chan struct{}, 1)
	var load sync.WaitGroup
	for _, p := range parts {
		load.Go(func() { p.fill(ctx, t, n.Group, acked) })
	}
	between := lane.Pick(100, 200, 300) // records of 64 KiB
	type saved struct {
		file string
		head snapshot.Head
	}
	var all []saved
	for range lane.Pick(1, 3, 20) {
		for i := 0; i < between || !merged(n); i++ {
			if i == 50*between {
				t.Fatal("nothing is merged")
			}
			<-acked
			if i%50 == 0 {
				if err := n.Group.Retain(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		s := saved{file: filepath.Join(t.TempDir(), "backup")}
		done := make(chan error)
		go func() {
			var err error
			s.head, err = saveSnapshot(t.Context(), n.Group, s.file)
			done <- err
		}()
		for waiting := true; waiting; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				all, waiting = append(all, s), false
			case <-acked: // the load goes on meanwhile
			}
		}
	}
	stop()
	load.Wait()
	for _, s := range all {
		checkRestored(t, n, s.file, &s.head, parts)
	}
}

// merged says whether a node has a segment that was written again.
func merged(n *clustertest.Node) bool {
	return slices.ContainsFunc(n.Log.Status(), func(s storage.SegmentStatus) bool { return s.First != s.Last || strings.Contains(s.Name, ".") })
}

// do proposes a command that must be done.
func do(t testing.TB, g *cluster.Group, cmd []byte) {
	t.Helper()
	if r, _, err := g.Do(t.Context(), cmd); err != nil || !r.Status.Done() {
		t.Fatalf("%+v, %v", r, err)
	}
}

// checkRestored restores a file, compares the node that starts on it with the journal, and removes both.
func checkRestored(t *testing.T, from *clustertest.Node, file string, head *snapshot.Head, parts []*loaded) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	restored, err := restore(t, file, dir)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(err error) { t.Errorf("fail-stop: %v", err) }
	n, err := clustertest.OpenOptions(t.Context(), storage.Options{SegmentBytes: smallSegment, GuardBytes: storage.GuardMin(smallSegment), Fail: fail}, cluster.Options{Dir: dir, SegmentBytes: smallSegment,
		RetainEvery: time.Hour, // what is compared stays
		StallReject: clustertest.Patience, StallEnd: clustertest.Patience, Fail: fail})
	if err != nil {
		t.Fatal(err)
	}
	view, old := n.Group.View(), from.Group.View()
	if view.ClusterID() != restored.Cluster || view.ClusterID() == old.ClusterID() || head.Cluster != old.ClusterID() {
		t.Errorf("cluster %s, told %s, restored from %s, the file says %s", view.ClusterID(), restored.Cluster, old.ClusterID(), head.Cluster)
	}
	if d := cmp.Diff(old.Policy(), view.Policy()); d != "" {
		t.Errorf("policy: %s", d)
	}
	if d := cmp.Diff(old.Revocations(), view.Revocations()); d != "" || len(view.Revocations()) != 1 {
		t.Errorf("revocations: %s", d)
	}
	if _, ok := view.Topic("gone"); ok {
		t.Error("a deleted topic is back")
	}
	for _, l := range parts {
		was, ok := view.Topic(l.name)
		now, _ := old.Topic(l.name)
		if !ok || cmp.Diff(now, was) != "" {
			t.Errorf("topic %s: %+v, was %+v", l.name, was, now)
		}
		p, _ := view.Partition(l.id)
		indexes := l.acknowledged()
		want, _ := slices.BinarySearch(indexes, head.Index+1) // so many were acknowledged up to the index
		if int(p.Next) != want {
			t.Errorf("%s: records up to %d, want %d up to entry %d", l.name, p.Next, want, head.Index)
		}
		checkTopic(t, n, l.id, int(p.Low), int(p.Next))
		if _, _, _, err := n.Log.Read(l.id, p.Low-1, 1, nil); p.Low > 0 && !errors.Is(err, storage.ErrTrimmed) {
			t.Errorf("%s: read below the low offset: %v", l.name, err)
		}
		last := uint64(p.Next - 1)
		if r, _, err := n.Group.Do(t.Context(), publish(l.id, l.producer, last, crashBody(int(last)))); err != nil || r.Status != state.StatusDuplicate || r.Offset != topic.Offset(last) {
			t.Errorf("%s: a repeat of record %d: %+v, %v", l.name, last, r, err)
		}
		if r, _, err := n.Group.Do(t.Context(), publish(l.id, l.producer, last+1, crashBody(int(last+1)))); err != nil || r.Status != state.StatusOK || r.Offset != p.Next {
			t.Errorf("%s: publish behind the snapshot: %+v, %v, want offset %d", l.name, r, err, p.Next)
		}
		checkTopic(t, n, l.id, int(p.Low), int(p.Next)+1)
	}
	restart(t, n, dir)
	if err := errors.Join(os.Remove(file), os.RemoveAll(dir)); err != nil { // the next ones are larger
		t.Error(err)
	}
}

// restart cuts and seals a restored node's first segment of its own, stops it, and starts it again.
func restart(t *testing.T, n *clustertest.Node, dir string) {
	t.Helper()
	if err := n.Group.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.Log.WaitSealed(t.Context(), n.Group.View().Segment()-1); err != nil {
		t.Error(err)
	}
	id := n.Group.View().ClusterID()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n, err := clustertest.OpenWith(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) }, smallSegment)
	if err != nil {
		t.Fatal(err)
	}
	if n.Group.View().ClusterID() != id {
		t.Errorf("cluster %s after a restart, was %s", n.Group.View().ClusterID(), id)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

// goodSnapshot is a file of a small node: two segments and what is behind them.
func goodSnapshot(t testing.TB) (file string) {
	t.Helper()
	n := clustertest.Start(t, t.TempDir())
	p := createTopic(t, n.Group, "orders")
	fillTopic(t, n, p, 0, 3)
	if err := n.Group.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillTopic(t, n, p, 3, 6)
	file = filepath.Join(t.TempDir(), "backup")
	if _, err := saveSnapshot(t.Context(), n.Group, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// listing is every file below a folder, with size and time.
func listing(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		list = append(list, fmt.Sprint(path, info.Size(), info.Mode(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestB02RefusesDamagedFiles: a file with flipped bits, cut short, with something behind it, of another kind or of a newer
// program is refused, and the folder is not touched: not made if it is missing, nothing put into an empty one.
func TestB02RefusesDamagedFiles(t *testing.T) {
	good, err := os.ReadFile(goodSnapshot(t))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	empty, bad := filepath.Join(root, "empty"), filepath.Join(root, "bad")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		before := listing(t, root)
		for _, dir := range []string{empty, filepath.Join(root, "missing")} {
			_, err := restore(t, bad, dir)
			if !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, snapshot.ErrForeign) && !errors.Is(err, snapshot.ErrNewer) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if d := cmp.Diff(before, listing(t, root)); d != "" {
			t.Errorf("%s: the folder was touched: %s", what, d)
		}
	}
	for range lane.Pick(60, 500, 3000) {
		at := random.IntN(len(good) * 8)
		b := bytes.Clone(good)
		b[at/8] ^= 1 << (at % 8)
		refused(fmt.Sprintf("bit %d of byte %d turned", at%8, at/8), b)
	}
	for range lane.Pick(30, 200, 1000) {
		n := random.IntN(len(good))
		refused(fmt.Sprintf("cut at %d of %d", n, len(good)), good[:n])
	}
	refused("empty", nil)
	refused("without its last byte", good[:len(good)-1])
	refused("with a byte behind it", append(bytes.Clone(good), '\n'))
	refused("twice", append(bytes.Clone(good), good...))
	newer := bytes.Clone(good)
	newer[7]++
	refused("of a newer version", newer)
	refused("of another kind", append([]byte("SQLite format 3\x00"), good...))
	refused("half of zeros", append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)-len(good)/2)...))
}

// TestB02RefusesFolders: a folder that holds anything is refused and left as it is; one that only a file system or a lock has
// made something in is not.
func TestB02RefusesFolders(t *testing.T) {
	file := goodSnapshot(t)
	used, _, _ := sealedNode(t)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := t.TempDir() // a node was started on it once, and wrote nothing
	lock, err := cluster.Lock(fresh, "n1")
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	for name, dir := range map[string]string{"a node's": used, "a stranger's": foreign, "one that was started on": fresh, "a file": filepath.Join(foreign, "notes.txt"), "without a parent": filepath.Join(foreign, "a/b")} {
		root := filepath.Dir(used)
		before := listing(t, root)
		if _, err := restore(t, file, dir); err == nil {
			t.Errorf("%s: restored", name)
		}
		if d := cmp.Diff(before, listing(t, root)); d != "" {
			t.Errorf("%s was touched: %s", name, d)
		}
	}
	mounted := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(mounted, "lost+found"), 0o700), os.WriteFile(filepath.Join(mounted, "LOCK"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, file, mounted); err != nil {
		t.Error(err)
	}
	if _, err := restore(t, file, mounted); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second restore into the same folder: %v", err)
	}
	n := clustertest.Start(t, mounted)
	found, _ := n.Group.View().Topic("orders")
	checkTopic(t, n, found.Partitions[0], 0, 6)
}

// restoreSteps are the persistent steps of a restore, in their order; @n is the hit.
var restoreSteps = []string{"restore.mkdir@1", "restore.mark@1", "restore.segments@1", "segment.open@1", "storage.write@1", "seal.checkpoint@1", "seal.close@1", "seal.sync@1", "seal.verify@1", "seal.manifest@1", "seal.rename@1", "seal.syncdir@1",
	"segment.open@2", "storage.write@2", "seal.checkpoint@2", "seal.verify@2", "seal.rename@2", "restore.log@1", "raft.set@1", "raft.append@1", "restore.node@1", "node.write@1", "node.rename@1", "node.syncdir@1", "restore.unmark@1", "restore.syncdir@1"}

// TestRestoreFaults is the fault table of restore. Whatever fails or ends the process at whatever step, nothing starts on the
// folder unless all of it is there; and another restore works.
func TestRestoreFaults(t *testing.T) {
	file := goodSnapshot(t)
	for i, point := range restoreSteps {
		for j, action := range []fault.Action{fault.Error, fault.ErrorDone, fault.CrashBefore, fault.CrashAfter} {
			t.Run(point+"="+string(action), func(t *testing.T) {
				if point != "restore.log@1" && point != "seal.rename@2" && point != "restore.unmark@1" {
					lane.Third(t, i+j, "B-01 C-05")
				}
				dir := filepath.Join(t.TempDir(), "data")
				crash := action == fault.CrashBefore || action == fault.CrashAfter
				runRestore(t, file, dir, point, action, crash)
				whole := point == "restore.syncdir@1" || point == "restore.unmark@1" && (action == fault.ErrorDone || action == fault.CrashAfter)
				untouched := point == "restore.mkdir@1" || point == "restore.mark@1" && (action == fault.Error || action == fault.CrashBefore)
				if !whole && !untouched {
					_, err := cluster.Lock(dir, "n1")
					if err == nil || !strings.Contains(err.Error(), "restore") {
						t.Fatalf("a node starts on an unfinished restore: %v", err)
					}
					lock, err := cluster.LockReading(dir)
					if err != nil {
						t.Fatal(err)
					}
					report, err := lock.Check(t.Context(), func() (storage.Head, bool) { return storage.Head{}, false })
					if err = errors.Join(err, lock.Close()); err != nil || !strings.Contains(report.NodeFault, "restore") {
						t.Errorf("a look at an unfinished restore: %+v, %v", report, err)
					}
				}
				if !whole {
					if _, err := restore(t, file, dir); err != nil {
						t.Fatalf("another restore: %v", err)
					}
				}
				n := clustertest.Start(t, dir)
				found, ok := n.Group.View().Topic("orders")
				if !ok {
					t.Fatal("the topic is missing")
				}
				checkTopic(t, n, found.Partitions[0], 0, 6)
				fillTopic(t, n, found.Partitions[0], 6, 8)
			})
		}
	}
}

// restoreEnv names the file of a child that restores it until a fault ends it; its argument is the folder.
const restoreEnv = "WAXWING_TEST_RESTORE_FILE"

// restoreUntilFault is that child.
func restoreUntilFault(file, dir string) int {
	if err := fault.ArmFromEnv(); err != nil {
		return 9
	}
	f, err := os.Open(file)
	if err != nil {
		return 9
	}
	defer f.Close()
	if _, err := cluster.Restore(context.Background(), cluster.RestoreOptions{File: f, Dir: dir, NodeID: "n1"}); errors.Is(err, fault.ErrInjected) {
		return failStop
	} else if err != nil {
		return 1
	}
	return 0
}

// runRestore restores in a process of its own, which must meet the fault.
func runRestore(t *testing.T, file, dir, point string, action fault.Action, crash bool) {
	t.Helper()
	name, hit, _ := strings.Cut(point, "@")
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir)
	cmd.Env = append(os.Environ(), restoreEnv+"="+file, fmt.Sprintf("%s=%s=%s@%s", fault.Env, name, action, hit))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signaled() != crash || !crash && exit.ExitCode() != failStop {
		t.Fatalf("the restore ended with %v: %s", err, out)
	}
}

// forge encodes a file again with another head, and without some of its chunks; every sum is right.
func forge(t testing.TB, file []byte, change func(*snapshot.Head), keep func(segment int) bool) []byte {
	t.Helper()
	r, err := snapshot.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	h := *r.Head()
	h.Segments = slices.Clone(h.Segments)
	change(&h)
	var w snapshot.Writer
	out, segment := w.Begin(nil, &h), -1
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return w.End(out)
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Kind == snapshot.KindSegment {
			segment++
		}
		if keep(segment) {
			out = w.Chunk(out, c.Kind, c.Payload)
		}
	}
}

// TestB02ForgedParts: files of good parts that do not belong together: a segment less, another cluster, another index, another
// term, as many as there are segments.
func TestB02ForgedParts(t *testing.T) {
	good, err := os.ReadFile(goodSnapshot(t))
	if err != nil {
		t.Fatal(err)
	}
	all := func(int) bool { return true }
	if same := forge(t, good, func(*snapshot.Head) {}, all); !bytes.Equal(same, good) {
		t.Fatal("a file is not encoded again as it was")
	}
	for name, forged := range map[string][]byte{
		"without its first segment": forge(t, good, func(h *snapshot.Head) { h.Segments = h.Segments[1:] }, func(s int) bool { return s != 0 }),
		"of another cluster":        forge(t, good, func(h *snapshot.Head) { h.Cluster = "other" }, all),
		"of another index":          forge(t, good, func(h *snapshot.Head) { h.Index++; h.Segments[1].Index++ }, all),
		"of another term":           forge(t, good, func(h *snapshot.Head) { h.Term++ }, all),
		"without its last segment":  forge(t, good, func(h *snapshot.Head) { h.Segments, h.Index = h.Segments[:1], h.Segments[0].Index }, func(s int) bool { return s == 0 }),
		"with a segment too many":   forge(t, good, func(h *snapshot.Head) { h.Segments, h.Index = h.Segments[:1], h.Segments[0].Index }, all),
	} {
		if _, err := cluster.VerifySnapshot(t.Context(), bytes.NewReader(forged)); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
