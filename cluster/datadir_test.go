package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
)

func TestLockRefuses(t *testing.T) {
	for name, c := range map[string]struct{ meta, want string }{
		"newer format": {`{"version":2,"node":"n1"}`, "newer program"},
		"other node":   {`{"version":1,"node":"n2"}`, `belongs to node "n2"`},
		"no version":   {`{"node":"n1"}`, "format version 0"},
		"not JSON":     {`{"version":`, "not JSON"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "node.json")
		if err := os.WriteFile(file, []byte(c.meta), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.Lock(dir, "n1"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != c.meta {
			t.Errorf("%s: the file was changed: %q, %v", name, got, err)
		}
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := cluster.Lock(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Lock(dir, "n1"); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := cluster.Lock(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "raft")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("raft folder: %v, %v", info.Mode(), err)
	}
}

// TestMetaFaults is the fault table of node.json: refused, or done, and the next start works.
func TestMetaFaults(t *testing.T) {
	for _, point := range []string{"node.write", "node.rename", "node.syncdir"} {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
			dir := t.TempDir()
			fault.Arm(point, action, 1)
			_, err := cluster.Lock(dir, "n1")
			fault.Disarm()
			if !errors.Is(err, fault.ErrInjected) {
				t.Errorf("%s %s: %v", point, action, err)
			}
			d, err := cluster.Lock(dir, "n1")
			if err != nil {
				t.Errorf("%s %s, next start: %v", point, action, err)
				continue
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDamagedEntryAtStart flips a bit of an old entry: the node refuses to start, with a reason, and raft's
// panic stays inside.
func TestDamagedEntryAtStart(t *testing.T) {
	dir := t.TempDir()
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	p := createTopic(t, n.Group, "orders")
	for i := range 5 {
		if _, _, err := n.Group.Do(t.Context(), publish(p, 1, uint64(i), []byte("some body that is found again "+string(rune('a'+i))))); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "raft"), []byte("some body that is found again b"))
	if _, err := clustertest.Open(t.Context(), dir, func(error) {}); !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("started on a damaged log: %v, want ErrCorrupt", err)
	}
}

// TestLostLog removes every entry but leaves the votes: the node must not begin anew.
func TestLostLog(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(mkdir(t, dir, "raft"), "raft"), nil)
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 3), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := clustertest.Open(t.Context(), dir, func(error) {}); !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("started without its log: %v, want ErrCorrupt", err)
	}
}

// TestHalfBootstrap stops a first start between raft's two writes, and then starts again.
func TestHalfBootstrap(t *testing.T) {
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		dir := t.TempDir()
		fault.Arm("raft.append", action, 1)
		_, err := clustertest.Open(t.Context(), dir, func(error) {})
		fault.Disarm()
		if err == nil {
			t.Errorf("%s: the first start went through", action)
		}
		if n := clustertest.Start(t, dir); n.Group.View().ClusterID() == "" {
			t.Errorf("%s: no cluster id", action)
		}
	}
}

func mkdir(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
