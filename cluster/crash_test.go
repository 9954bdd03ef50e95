package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// childEnv names the data folder of a child that lives until a fault ends it.
const childEnv = "WAXWING_TEST_CRASH_DIR"

// failStop is the child's exit code when the group or its storage called Fail.
const failStop = 70

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := liveUntilFault(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(fsyncEnv); dir != "" {
		os.Exit(writeAndSay(dir))
	}
	if file := os.Getenv(restoreEnv); file != "" {
		os.Exit(restoreUntilFault(file, os.Args[1]))
	}
	if dir := os.Getenv(recoverEnv); dir != "" {
		os.Exit(recoverUntilFault(dir))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a child with the race detector sleeps a second at its end otherwise
	os.Exit(m.Run())
}

// child is a process that goes through everything that a node does to its disk. It prints "topic offset" for each
// acknowledged record. The pipe is the acknowledgement journal; it lies outside the data folder.
type child struct {
	dir  string
	node *clustertest.Node
	next map[topic.Name]int // records published
}

// liveUntilFault has two lives: the second deletes what the first left unsealed.
func liveUntilFault(dir string) error {
	if err := fault.ArmFromEnv(); err != nil {
		return err
	}
	c := &child{dir: dir, next: map[topic.Name]int{}}
	for _, step := range []func() error{
		c.start, c.createTopics, func() error { return c.publish("orders", 70) }, c.sealed, c.stop,
		c.cutTail,
		c.start, c.churn, c.sealed, c.stop,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *child) start() (err error) {
	c.node, err = clustertest.OpenWith(context.Background(), c.dir, func(error) { os.Exit(failStop) }, smallSegment)
	return err
}

func (c *child) stop() error { return c.node.Stop() }

// createTopics makes one whose records stay, one that is held short, and one for tiny records.
func (c *child) createTopics() error {
	for name, most := range map[topic.Name]uint64{"orders": 0, "brief": 4, "tiny": 0} {
		create := state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: state.Spec{Partitions: 1, MaxRecords: most}, By: "test"})
		if _, _, err := c.node.Group.Do(context.Background(), create); err != nil {
			return err
		}
	}
	return nil
}

// publish waits for each record's acknowledgement, which must name the offset that is its number.
func (c *child) publish(name topic.Name, count int) error {
	t, ok := c.node.Group.View().Topic(name)
	if !ok {
		return fmt.Errorf("topic %s is gone", name)
	}
	for range count {
		n := c.next[name]
		body := crashBody(n)
		if name == "tiny" {
			body = body[:2]
		}
		answer, _, err := c.node.Group.Do(context.Background(), publish(t.Partitions[0], 1, uint64(n), body))
		if err != nil {
			return err
		}
		if answer.Status != state.StatusOK || answer.Offset != topic.Offset(n) {
			return fmt.Errorf("%s, record %d: %+v", name, n, answer)
		}
		fmt.Println(name, n)
		c.next[name]++
	}
	return nil
}

// churn fills segments of which little stays, so that they are merged, and makes more entries than the window of the raft
// log holds.
func (c *child) churn() error {
	for range 6 {
		if err := errors.Join(c.publish("brief", 20), c.publish("orders", 2), c.publish("tiny", 180)); err != nil {
			return err
		}
		if err := c.node.Group.Retain(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// sealed cuts, and waits until everything behind it is done.
func (c *child) sealed() error {
	ctx := context.Background()
	if err := c.node.Group.Rotate(ctx); err != nil {
		return err
	}
	if err := c.node.Log.WaitSealed(ctx, c.node.Group.View().Segment()-1); err != nil {
		return err
	}
	return c.node.Log.Tidy(ctx)
}

// cutTail does to the log of a stopped node what raft does to an entry that a new leader does not have.
func (c *child) cutTail() (err error) {
	fail := func(error) { os.Exit(failStop) }
	log, err := storage.Open(storage.Options{Dir: filepath.Join(c.dir, "storage"), SegmentBytes: smallSegment, Fail: fail})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	s, err := cluster.OpenStoreOf(filepath.Join(c.dir, "raft"), log, fail)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	var l raft.Log
	if err := s.GetLog(last, &l); err != nil {
		return err
	}
	tail := &raft.Log{Index: last + 1, Term: l.Term, Type: raft.LogNoop}
	if err := s.StoreLog(tail); err != nil {
		return err
	}
	return s.DeleteRange(last+1, last+1)
}

func crashBody(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 32<<10) }

// laterHits are worth a second look: what comes first at these points is not what comes most.
var laterHits = map[string]int{"raft.append": 60, "raft.set": 3, "meta.write": 4, "meta.rename": 2, "meta.syncdir": 3, "fsm.apply": 50, "storage.write": 3, "segment.open": 3, "segment.turn": 2, "file.sync": 2,
	"seal.close": 2, "seal.verify": 2, "seal.syncdir": 2, "segment.delete": 2}

// sampled are met in lane 1.
var sampled = map[string]bool{"raft.append@60": true, "seal.rename@1": true}

// elsewhere are points that a node's life does not reach, and the test that does.
var elsewhere = map[string]string{
	"export.read":   "TestExportFaults of storage",
	"install.begin": anInstall, "install.write": anInstall, "install.sync": anInstall, "install.seal": anInstall,
	"install.commit": anInstall, "install.clear": anInstall, "install.move": anInstall, "install.done": anInstall, "raft.wipe": anInstall,
	"repair.move": "TestC03RepairFaults", "repair.leave": "TestC03RepairFaults", "sealkey.write": "TestSealKeyFaults",
	"snapshot.create": aSnapshot, "snapshot.write": aSnapshot, "snapshot.sync": aSnapshot, "snapshot.prove": aSnapshot, "snapshot.rename": aSnapshot, "snapshot.syncdir": aSnapshot,
	"restore.mkdir": aRestore, "restore.mark": aRestore, "restore.segments": aRestore, "restore.log": aRestore, "restore.node": aRestore, "restore.unmark": aRestore, "restore.syncdir": aRestore,
}

const (
	anInstall = "TestC03InstallFaults"
	aSnapshot = "TestSaveFaults of cmd/waxwing"
	aRestore  = "TestRestoreFaults"
)

// TestC05FaultAtEachStep: a real process meets each fault at each persistent step that the program has; the next start
// is clean and everything acknowledged is there, in order.
func TestC05FaultAtEachStep(t *testing.T) {
	for i, point := range fault.Points() {
		if test := elsewhere[point]; test != "" {
			t.Logf("%s is met by %s", point, test)
			continue
		}
		hits := []int{1}
		if later := laterHits[point]; later > 0 {
			hits = append(hits, later)
		}
		for j, hit := range hits {
			for k, action := range fault.Failures() {
				at := fmt.Sprintf("%s@%d", point, hit)
				t.Run(at+"="+string(action), func(t *testing.T) {
					if !sampled[at] {
						lane.Third(t, i+j+k, "C-05")
					}
					dir := t.TempDir()
					checkAcknowledged(t, dir, runToFault(t, dir, fmt.Sprintf("%s=%s@%d", point, action, hit), action))
				})
			}
		}
	}
}

// runToFault runs the child until the fault ends it and returns its journal: how many records of each topic were acknowledged.
func runToFault(t *testing.T, dir, armed string, action fault.Action) map[topic.Name]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, fault.Env+"="+armed)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatal("the child did not end")
	case err == nil:
		t.Fatal("the fault was never met: the child's life must reach each point of fault.Points")
	case !errors.As(err, &exit):
		t.Fatalf("child ended with %v, want a failure", err)
	}
	crash := action == fault.CrashBefore || action == fault.CrashAfter
	if killed := exit.Sys().(syscall.WaitStatus).Signaled(); killed != crash {
		t.Errorf("killed %v, exit code %d: %s", killed, exit.ExitCode(), exit.Stderr)
	}
	if action == fault.Error || action == fault.ErrorDone {
		if !bytes.Contains(exit.Stderr, []byte(fault.ErrInjected.Error())) && exit.ExitCode() != failStop {
			t.Errorf("exit code %d for another reason: %s", exit.ExitCode(), exit.Stderr)
		}
	}
	acked := map[topic.Name]int{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var name topic.Name
		var number int
		if _, err := fmt.Sscan(s.Text(), &name, &number); err != nil || number != acked[name] {
			t.Fatalf("journal line %q after %v: %v", s.Text(), acked, err)
		}
		acked[name]++
	}
	return acked
}

// checkAcknowledged starts a node on what a fault left.
func checkAcknowledged(t *testing.T, dir string, acked map[topic.Name]int) {
	t.Helper()
	n := clustertest.StartWith(t, dir, smallSegment)
	for name, count := range acked {
		found, ok := n.Group.View().Topic(name)
		if !ok {
			t.Errorf("topic %s is lost with %d acknowledged records", name, count)
			continue
		}
		p := found.Partitions[0]
		if end := int(n.Log.End(p)); end < count || end > count+1 {
			t.Errorf("%s: %d acknowledged records, the partition ends at %d", name, count, end)
		}
		if name == "tiny" {
			continue
		}
		low := int(lowOf(n.Group, p))
		if name == "orders" && low > 0 || name == "brief" && low > max(count-3, 0) {
			t.Errorf("%s: low offset %d of %d records", name, low, count)
		}
		checkTopic(t, n, p, low, int(n.Log.End(p)))
	}
	p := createTopic(t, n.Group, "after")
	r, _, err := n.Group.Do(t.Context(), publish(p, 2, 0, []byte("after")))
	if err != nil || r.Status != state.StatusOK || r.Offset != 0 {
		t.Errorf("publish after the restart: %+v, %v", r, err)
	}
}
