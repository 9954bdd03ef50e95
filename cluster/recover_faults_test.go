package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// recoverEnv names the folder of a child that recovers it until a fault ends it.
const recoverEnv = "WAXWING_TEST_RECOVER_DIR"

// recoverUntilFault is that child.
func recoverUntilFault(dir string) int {
	if err := fault.ArmFromEnv(); err != nil {
		return 9
	}
	s, err := cluster.OpenSurvivor(context.Background(), dir, ignore)
	if err != nil {
		fmt.Println(err)
		return 9
	}
	if err := s.Recover(context.Background(), recoverOptions); errors.Is(err, fault.ErrInjected) {
		return failStop
	} else if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// recoverOptions suit a small disk.
var recoverOptions = cluster.RecoverOptions{GuardBytes: storage.GuardMin(storage.SegmentBytesDefault)}

// leftOver makes the folder of node n1 of three, with a sealed segment, 40 records, and nobody else left.
func leftOver(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "n1")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		if err := leader.Group.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.nodes["n1"].Log.WaitSealed(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		leader.fill(t, p, 20, 40)
		f.settle()
		f.stopAll()
		if err := os.CopyFS(dir, os.DirFS(f.dir("n1"))); err != nil {
			t.Fatal(err)
		}
	})
	return dir
}

// copyOf copies a node's folder.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "n1")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// runRecover recovers in a process of its own, until the fault; met is whether there was one.
func runRecover(t *testing.T, dir, armed string) (met, killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), recoverEnv+"="+dir, fault.Env+"="+armed)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false, false
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || ctx.Err() != nil {
		t.Fatal(err)
	}
	killed = exit.Sys().(syscall.WaitStatus).Signaled()
	if !killed && exit.ExitCode() != failStop {
		t.Fatalf("the recovery ended with %v: %s", err, out)
	}
	return true, killed
}

// faultsOfRecovery are met in lane 2, the first of them in lane 1 with a crash. Lane 3 meets whatever there is.
var faultsOfRecovery = []string{"raft.append@1", "raft.compact@1", "seal.rename@1", "raft.set@1", "segment.cut@1", "seal.syncdir@1"}

// TestB04RecoverFaults: a recovery meets each fault at each of its steps. What it leaves is the folder of the old cluster, or one on
// which nothing starts; another recovery ends it, as the cluster that was decided, and everything is there.
func TestB04RecoverFaults(t *testing.T) {
	from := leftOver(t)
	before := survivor(t, from)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	try := func(at string, actions ...fault.Action) (met bool) {
		for _, action := range actions {
			t.Run(at+"="+string(action), func(t *testing.T) { met = recoverAfter(t, copyOf(t, from), at, action, before.Found) || met })
		}
		return met
	}
	table := []fault.Action{fault.Error, fault.ErrorDone, fault.CrashBefore, fault.CrashAfter}
	must := func(at string, actions ...fault.Action) {
		if !try(at, actions...) {
			t.Errorf("%s is never reached", at)
		}
	}
	if lane.Current() < 2 {
		must(faultsOfRecovery[0], fault.CrashAfter)
		must(faultsOfRecovery[1], fault.CrashBefore)
		return
	}
	for _, at := range faultsOfRecovery {
		must(at, table...)
	}
	if lane.Current() < 3 {
		return
	}
	for _, point := range fault.Points() {
		for hit := 1; try(fmt.Sprintf("%s@%d", point, hit), table...); hit++ {
		}
	}
}

// recoverAfter has a recovery meet a fault, and another one end it.
func recoverAfter(t *testing.T, dir, at string, action fault.Action, before cluster.Found) bool {
	point, hit, _ := strings.Cut(at, "@")
	met, killed := runRecover(t, dir, fmt.Sprintf("%s=%s@%s", point, action, hit))
	if !met {
		return false
	}
	if crash := action == fault.CrashBefore || action == fault.CrashAfter; killed != crash {
		t.Errorf("killed: %v", killed)
	}
	left := survivor(t, dir)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	was := left.Found
	if was.Progress == cluster.Lost && (was.Cluster != before.Cluster || was.Last != before.Last || len(was.Members) != 3) || was.Progress != cluster.Lost && (was.Cluster == before.Cluster || len(was.Members) != 1) {
		t.Errorf("neither the old nor the new cluster: %+v", was)
	}
	if want, known := progressAfter(at, action == fault.ErrorDone || action == fault.CrashAfter); known && was.Progress != want {
		t.Errorf("its progress is %v, want %v", was.Progress, want)
	}
	if was.Progress == cluster.Unfinished {
		if n, err := openRecovered(t, dir); err == nil || !strings.Contains(err.Error(), "run it again") {
			t.Errorf("a node starts on it: %v, %v", n, err)
		}
	}
	after := recoverFolder(t, dir)
	if after.Progress != cluster.Alone || after.Cluster == before.Cluster || was.Progress != cluster.Lost && after.Cluster != was.Cluster {
		t.Errorf("recovered %+v behind %+v", after, was)
	}
	checkRecovered(t, dir, after)
	return true
}

// progressAfter is how far a recovery is that met a fault, for the steps that decide.
func progressAfter(at string, done bool) (p cluster.Progress, known bool) {
	switch {
	case at == "raft.set@1", at == "raft.append@1" && !done:
		return cluster.Lost, true
	case at == "raft.compact@1" && done:
		return cluster.Alone, true
	case at == "raft.append@1", strings.HasPrefix(at, "seal."), strings.HasPrefix(at, "raft.compact"):
		return cluster.Unfinished, true
	}
	return 0, false
}

// openRecovered starts the node without its peers.
func openRecovered(t *testing.T, dir string) (*clustertest.Node, error) {
	fail := func(err error) { t.Errorf("fail-stop: %v", err) }
	return clustertest.OpenOptions(t.Context(), storage.Options{GuardBytes: recoverOptions.GuardBytes, Fail: fail}, cluster.Options{Dir: dir, NodeID: "n1", StallReject: clustertest.Patience, StallEnd: clustertest.Patience, Fail: fail})
}

// checkRecovered starts the node: all records are there, nobody else comes back, and it goes on.
func checkRecovered(t *testing.T, dir string, found cluster.Found) {
	t.Helper()
	n, err := openRecovered(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	view := n.Group.View()
	if view.ClusterID() != found.Cluster {
		t.Errorf("it is cluster %s, want %s", view.ClusterID(), found.Cluster)
	}
	for _, m := range view.Members() {
		if m.Removed != (m.Node != "n1") {
			t.Errorf("member %+v", m)
		}
	}
	orders, _ := view.Topic("orders")
	m := &member{id: "n1", Group: n.Group, Log: n.Log}
	m.holds(t, orders.Partitions[0], 40)
	if r, _, err := n.Group.Do(t.Context(), publish(orders.Partitions[0], 2, 0, smallBody(40))); err != nil || r.Status != state.StatusOK || r.Offset != 40 {
		t.Errorf("publish: %+v, %v", r, err)
	}
}
