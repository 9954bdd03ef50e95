package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/internal/powercut"
)

// cutPoint is a fault point at which the power is cut, before and after one of its first hits.
type cutPoint struct {
	name string
	hits int
}

// cutPoints are the persistent steps of a node that was started before; firstStartPoints those of
// the first start. Each must be reached: one that is not has lost its place or its test.
var (
	cutPoints = []cutPoint{
		{"raft.append", 60}, {"raft.set", 2}, {"raft.compact", 2}, {"fsm.apply", 200}, // with hits in the replay of the start
		{"segment.cut", 4}, {"segment.turn", 4}, {"segment.open", 4}, {"storage.write", 3}, {"storage.empty", 1},
		{"seal.checkpoint", 3}, {"seal.close", 3}, {"seal.sync", 3}, {"seal.verify", 3}, {"seal.manifest", 3}, {"file.sync", 3}, {"seal.rename", 3}, {"seal.syncdir", 3},
		{"segment.unseal", 3}, {"segment.delete", 3}, {"merge.swap", 2}, {"seal.rename", 8}, {"seal.syncdir", 8},
	}
	firstStartPoints = []cutPoint{{"node.write", 1}, {"node.rename", 1}, {"node.syncdir", 1}, {"raft.set", 3}, {"raft.append", 1}, {"segment.open", 1}, {"segment.open", 2}, {"fsm.apply", 1},
		{"segment.cut", 1}, {"seal.rename", 1}}
)

// cutTimeMax is for all cuts of a test.
const cutTimeMax = time.Hour

// programUnderCut is how to start a broker. A program with the race detector waits a second before it ends, unless it is told not to.
var programUnderCut = launch.Options{Env: []string{asProgram + "=1"}}

// newHarness prepares to cut the power of this program, or skips.
func newHarness(t *testing.T, under ...string) (*powercut.Harness, *rand.Rand) {
	t.Helper()
	if err := powercut.Missing(t.TempDir()); err != nil {
		t.Skip(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h, err := powercut.Open(powercut.Options{
		Dir: t.TempDir(), Start: programUnderCut, Seed: seed, Under: under, Keep: t.ArtifactDir(),
		BodyMax: lane.Pick(1<<10, 1<<10, 24<<10), // nightly, the raft log goes through several files of 64 MiB
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, rand.New(rand.NewPCG(seed, 1))
}

// atPoints lists a cut before and after a random hit of each point.
func atPoints(random *rand.Rand, points []cutPoint, firstStart bool) []powercut.Moment {
	var moments []powercut.Moment
	for _, p := range points {
		for _, action := range []fault.Action{fault.StopBefore, fault.StopAfter} {
			moments = append(moments, powercut.Moment{Point: p.name, Action: action, Hit: 1 + random.IntN(p.hits), FirstStart: firstStart})
		}
	}
	return moments
}

// cutAt cuts at each moment and reports.
func cutAt(t *testing.T, h *powercut.Harness, moments []powercut.Moment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cutTimeMax)
	defer cancel()
	var took time.Duration
	for i, m := range moments {
		cut, err := h.Cut(ctx, m)
		t.Logf("%d: %v", i+1, cut)
		if err != nil {
			t.Fatal(err)
		}
		if m.Point != "" && !cut.Reached {
			t.Errorf("%v was never reached", m)
		}
		took += cut.Took
	}
	t.Logf("%d cuts, %v each", len(moments), (took / time.Duration(len(moments))).Round(time.Millisecond))
}

// TestC02PowerCut cuts the power of a node that has records, at random moments and at each fault
// point in turn (C-04 for those).
func TestC02PowerCut(t *testing.T) {
	lane.Need(t, 2, "C-02, C-04")
	cuts := lane.Pick(0, 1+2*len(cutPoints), 300)
	h, random := newHarness(t)
	var moments []powercut.Moment
	for len(moments) < cuts {
		moments = append(moments, powercut.Moment{})
		moments = append(moments, atPoints(random, cutPoints, false)...)
	}
	cutAt(t, h, moments[:cuts])
}

// TestC04FirstStartCut cuts the power in the first start of a node.
func TestC04FirstStartCut(t *testing.T) {
	lane.Need(t, 2, "C-04")
	h, random := newHarness(t)
	var moments []powercut.Moment
	for range lane.Pick(0, 1, 5) {
		moments = append(moments, atPoints(random, firstStartPoints, true)...)
	}
	cutAt(t, h, moments)
}

// newCluster prepares to cut the power of three nodes, or skips.
func newCluster(t *testing.T, under ...string) *powercut.Cluster {
	t.Helper()
	if err := powercut.Missing(t.TempDir()); err != nil {
		t.Skip(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c, err := powercut.OpenCluster(t.Context(), powercut.Options{Dir: t.TempDir(), Start: programUnderCut, Seed: seed, Under: under, Keep: t.ArtifactDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestC03PowerCutOfThree cuts the power of three nodes within 50 ms, again and again: what any majority acknowledged is on each
// of them afterwards, and they go on.
func TestC03PowerCutOfThree(t *testing.T) {
	lane.Need(t, 2, "C-03")
	c := newCluster(t)
	for i := range lane.Pick(0, 4, 100) {
		cut, err := c.Cut(t.Context())
		t.Logf("%d: %v", i+1, cut)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// noFsync runs a broker with an fsync that does nothing, or skips.
func noFsync(t *testing.T, row string) []string {
	t.Helper()
	strace := needStrace(t, row)
	const calls = "fsync,fdatasync"
	// -D leaves the broker our own child, so that its stop can be waited for.
	return []string{strace, "-D", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=" + calls, "-e", "inject=" + calls + ":retval=0"}
}

// lostSomething wants a cut to have found that records, or the whole node, are lost.
func lostSomething(t *testing.T, cut *powercut.Cut, err error) {
	t.Helper()
	var loss *powercut.LossError
	if lost := errors.As(err, &loss) && loss.Lost > 0; !lost && !errors.Is(err, powercut.ErrNoStart) {
		t.Fatalf("%v: a broker without fsync lost nothing: %v", cut, err)
	}
	t.Logf("%v: %v", cut, err)
}

// TestC03Control shows that such a cut finds what was on no disk.
func TestC03Control(t *testing.T) {
	lane.Need(t, 2, "C-03")
	c := newCluster(t, noFsync(t, "C-03")...)
	cut, err := c.Cut(t.Context())
	lostSomething(t, cut, err)
}

// TestC02Control shows that a cut finds what was not on the disk: the broker's fsync is made to do
// nothing, and records that it acknowledged must be missing.
func TestC02Control(t *testing.T) {
	lane.Need(t, 2, "C-02")
	h, _ := newHarness(t, noFsync(t, "C-02")...)
	cut, err := h.Cut(t.Context(), powercut.Moment{Point: "raft.append", Action: fault.StopBefore, Hit: 20})
	lostSomething(t, cut, err)
}
