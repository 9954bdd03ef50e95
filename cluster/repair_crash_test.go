package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// repairEnv names the folder of a child that repairs until a fault ends it.
const repairEnv = "WAXWING_TEST_REPAIR_DIR"

// repairPoints are the persistent steps of a repair.
var repairPoints = []string{"install.begin", "install.write", "install.sync", "install.seal", "repair.move", "repair.leave", "segment.unseal", "segment.delete"}

// TestRepairChild is the child: it damages two segments of n2, and has them repaired, with a fault under way.
func TestRepairChild(t *testing.T) {
	dir := os.Getenv(repairEnv)
	if dir == "" {
		t.Skip("it is run by TestC03RepairFaults")
	}
	synctest.Test(t, func(t *testing.T) {
		c := pair(t, dir, func(raft.ServerID, error) { os.Exit(failStop) })
		c.sealSome(t, createTopic(t, c.leader().Group, "orders"), 0, 3)
		to := c.nodes["n2"]
		c.settle(to)
		for _, name := range []string{"0000000001-0000000001", "0000000003-0000000003"} {
			flipFile(t, filepath.Join(c.segment(to, name), "MANIFEST"), 10, 1)
		}
		if err := fault.ArmFromEnv(); err != nil {
			t.Fatal(err)
		}
		c.scrubbed(to)
		c.repaired(to)
		to.holds(t, 1, 35)
		c.same(c.nodes["n1"], to)
	})
}

// TestC03RepairFaults (C-03): a real process meets each fault at each persistent step of a repair. The next start goes on with it,
// and ends with what the other node has, exactly.
func TestC03RepairFaults(t *testing.T) {
	for _, point := range repairPoints {
		for _, hit := range []string{"1", "2"} {
			for _, action := range fault.Failures() {
				at := point + "=" + string(action) + "@" + hit
				t.Run(at, func(t *testing.T) {
					switch {
					case at == "repair.move=crash-after@1":
					case hit == "1" && (action == fault.CrashBefore || action == fault.Error):
						lane.Need(t, 2, "C-03")
					default:
						lane.Need(t, 3, "C-03")
					}
					dir := t.TempDir()
					childMeets(t, "TestRepairChild", repairEnv+"="+dir, at, action, strings.HasPrefix(at, "install."))
					repairedExactly(t, dir)
				})
			}
		}
	}
}

// repairedExactly starts both nodes on what the child left.
func repairedExactly(t *testing.T, dir string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := pair(t, dir, nil)
		to := c.nodes["n2"]
		c.settle(to)
		c.scrubbed(to)
		c.repaired(to)
		p := topic.PartitionID(1)
		for _, m := range c.nodes {
			m.holds(t, p, 35)
		}
		c.whole(to)
		c.leader().fill(t, p, 35, 40)
		c.seal(to)
		c.same(c.nodes["n1"], to)
		left, err := os.ReadDir(filepath.Join(c.dir("n2"), "storage", "segments"))
		sealed := 0
		for _, s := range to.Log.Status() {
			if s.State == storage.StateSealed {
				sealed++
			}
		}
		if err != nil || sealed != 4 || len(left) > 6 { // and the active one, and the next
			t.Errorf("%d sealed segments, folders %v, %v", sealed, left, err)
		}
	})
}
