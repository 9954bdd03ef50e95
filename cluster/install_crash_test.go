package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// installEnv names the folder of a child that installs until a fault ends it.
const installEnv = "WAXWING_TEST_INSTALL_DIR"

// installPoints are the persistent steps of an install, and how often each is met before the one that fails.
var installPoints = map[string]int{"install.begin": 2, "install.write": 4, "install.sync": 2, "install.seal": 2, "install.commit": 1, "install.clear": 1, "install.move": 1, "install.done": 1, "raft.wipe": 1}

// pair is a leader and a node without a vote, so that the one can go on without the other.
func pair(t *testing.T, dir string, fail func(raft.ServerID, error)) *crew {
	c := newCrewIn(t, dir, nil)
	c.ids, c.fail = []raft.ServerID{"n1", "n2"}, fail
	c.suffrage = map[raft.ServerID]raft.ServerSuffrage{"n2": raft.Nonvoter}
	for _, id := range c.ids {
		c.start(id)
	}
	return c
}

// TestInstallChild is the child: it leaves n2 behind with records of its own, and then fills it, with a fault under way.
func TestInstallChild(t *testing.T) {
	dir := os.Getenv(installEnv)
	if dir == "" {
		t.Skip("it is run by TestC03InstallFaults")
	}
	synctest.Test(t, func(t *testing.T) {
		c := pair(t, dir, func(raft.ServerID, error) { os.Exit(failStop) })
		p := createTopic(t, c.leader().Group, "orders")
		c.leader().big(t, p, 0, 10)
		to := c.nodes["n2"]
		c.seal(to)
		c.leader().big(t, p, 10, 20)
		c.settle(to)
		c.away(t, p, "n2", 20, 2)
		c.leader().big(t, p, 84, 90)
		if err := fault.ArmFromEnv(); err != nil {
			t.Fatal(err)
		}
		c.heal()
		c.settle(to)
		c.same(c.nodes["n1"], c.nodes["n2"])
	})
}

// TestC03InstallFaults (C-03): a real process meets each fault at each persistent step of an install. The next start is
// clean, and what it goes on with is what the others have, exactly.
func TestC03InstallFaults(t *testing.T) {
	for i, point := range slices.Sorted(maps.Keys(installPoints)) {
		for j, hit := range slices.Compact([]int{1, installPoints[point]}) {
			for k, action := range fault.Failures() {
				at := strings.Join([]string{point, string(action)}, "=")
				if hit > 1 {
					at += "@later"
				}
				t.Run(at, func(t *testing.T) {
					if at != "install.commit=crash-after" && at != "install.move=crash-before" && at != "raft.wipe=crash-before" {
						lane.Third(t, i+j+k, "C-03")
					}
					dir := t.TempDir()
					fetch := strings.HasPrefix(point, "install.") && !slices.Contains([]string{"install.commit", "install.clear", "install.move", "install.done"}, point)
					childMeets(t, "TestInstallChild", installEnv+"="+dir, fmt.Sprintf("%s=%s@%d", point, action, hit), action, fetch)
					installedExactly(t, dir)
				})
			}
		}
	}
}

// childMeets runs a test in a process of its own until the fault ends it. An error in the way of a fetch does not: it is tried again.
func childMeets(t *testing.T, test, env, at string, action fault.Action, fetch bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), env, fault.Env+"="+at)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	failed := action == fault.Error || action == fault.ErrorDone
	switch crash := action == fault.CrashBefore || action == fault.CrashAfter; {
	case ctx.Err() != nil:
		t.Fatalf("the child did not end:\n%s", out)
	case failed && fetch:
		if err != nil || !bytes.Contains(out, []byte(fault.ErrInjected.Error())) {
			t.Fatalf("%v: the fetch was not tried again:\n%s", err, out)
		}
	case !errors.As(err, &exit):
		t.Fatalf("child ended with %v, the fault was never met", err)
	case crash != exit.Sys().(syscall.WaitStatus).Signaled(), failed && exit.ExitCode() != failStop:
		t.Fatalf("child ended with %v:\n%s", err, out)
	}
}

// installedExactly starts both nodes on what the child left.
func installedExactly(t *testing.T, dir string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := pair(t, dir, nil)
		to := c.nodes["n2"]
		c.settle(to)
		if h, _ := to.Log.Head(); h.Number < 3 {
			t.Errorf("head %+v", h)
		}
		p := topic.PartitionID(1)
		for _, m := range c.nodes {
			m.holdsBig(t, p, 90)
		}
		c.leader().big(t, p, 90, 92)
		c.seal(to)
		c.same(c.nodes["n1"], to)
		for _, s := range to.Log.Status() {
			if s.State == storage.StateSealed {
				if s, err := to.Log.VerifySegment(t.Context(), s.Name, 0); err != nil || s.Fault != "" {
					t.Errorf("%+v, %v", s, err)
				}
			}
		}
		if left, err := os.ReadDir(c.dir("n2") + "/storage/install"); err == nil {
			t.Errorf("left behind: %v", left)
		}
	})
}
