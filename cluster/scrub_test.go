package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster/clustertest"
)

// TestDamagedSegmentIsFilledAgain: when the newest segment is found damaged the raft log keeps its entries, however much
// is sealed behind it, and the advice that is given heals the node.
func TestDamagedSegmentIsFilledAgain(t *testing.T) {
	dir, p, _ := sealedNode(t)
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	segments := filepath.Join(dir, "storage", "segments")
	head, _ := n.Log.Head()
	name := filepath.Base(head.Dir)
	table, err := filepath.Glob(filepath.Join(head.Dir, "*.sst"))
	if err != nil || len(table) == 0 {
		t.Fatal(err)
	}
	b, err := os.ReadFile(table[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(table[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := n.Log.VerifySegment(t.Context(), name, 0); err != nil || st.Fault == "" {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := n.Log.Damage(); err == nil || !strings.Contains(err.Error(), "the raft log still has their entries") {
		t.Errorf("damage: %v", err)
	}
	at := 25
	for range 3 { // far more entries than the log keeps behind a sealed segment
		fillTopic(t, n, p, at, at+1200)
		at += 1200
		if err := n.Group.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Log.WaitSealed(t.Context(), n.Group.View().Segment()-1); err != nil {
		t.Fatal(err)
	}
	if err := n.Log.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}

	entries, err := os.ReadDir(segments)
	if err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(dir, "storage", "quarantine")
	if err := os.MkdirAll(away, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() >= name {
			if err := os.Rename(filepath.Join(segments, e.Name()), filepath.Join(away, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	n = clustertest.Start(t, dir)
	checkTopic(t, n, p, 0, at)
	if err := n.Log.WaitSealed(t.Context(), n.Group.View().Segment()-1); err != nil {
		t.Fatal(err)
	}
	if err := n.Log.Damage(); err != nil {
		t.Errorf("healed, and still: %v", err)
	}
}
