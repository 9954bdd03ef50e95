package sim_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/sim"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "play only the schedule of this seed; 0 = many")
	stepsFlag = flag.Int("sim.steps", 400, "steps of a schedule")
)

// TestSim plays schedules of crashes in the life of segments against a model. A failure names its seed;
// `go test ./internal/sim -run TestSim$ -sim.seed=N` plays it again, step by step.
func TestSim(t *testing.T) {
	if *seedFlag != 0 {
		play(t, *seedFlag)
		return
	}
	var sum sim.Stats
	n := uint64(lane.Pick(250, 500, 20_000))
	for seed := uint64(1); seed <= n && !t.Failed(); seed++ {
		s := play(t, seed)
		sum.Entries += s.Entries
		sum.Crashes += s.Crashes
		sum.Seals += s.Seals
		sum.Merges += s.Merges
		sum.Joined += s.Joined
		sum.Deletes += s.Deletes
		sum.Damaged += s.Damaged
		sum.Restored += s.Restored
		sum.Repeats += s.Repeats
	}
	t.Logf("%d schedules: %+v", n, sum)
	for what, n := range map[string]int{"seals": sum.Seals, "merges": sum.Merges, "merges of several": sum.Joined, "deletes": sum.Deletes, "damaged heads": sum.Damaged, "restores": sum.Restored, "repeats": sum.Repeats} {
		if n < 20 && !t.Failed() {
			t.Errorf("%d %s: the schedules prove too little", n, what)
		}
	}
}

// play plays one schedule.
func play(t *testing.T, seed uint64) sim.Stats {
	t.Helper()
	stats, trace, err := sim.Run(seed, *stepsFlag)
	if err == nil {
		return stats
	}
	name := filepath.Join(t.ArtifactDir(), "trace.txt")
	if werr := os.WriteFile(name, []byte(strings.Join(trace, "\n")+"\n"), 0o600); werr != nil {
		t.Error(werr)
	}
	t.Errorf("seed %d: %v\nthe last of %d steps (all of them in %s):\n%s\nagain: go test ./internal/sim -run 'TestSim$' -sim.seed=%d -sim.steps=%d",
		seed, err, len(trace), name, strings.Join(trace[max(0, len(trace)-25):], "\n"), seed, *stepsFlag)
	return stats
}

// TestSimRepeats: a seed plays the same schedule every time.
func TestSimRepeats(t *testing.T) {
	for seed := range uint64(20) {
		a, first, err := sim.Run(seed, 400)
		b, second, again := sim.Run(seed, 400)
		if a != b || err != nil || again != nil || !slices.Equal(first, second) {
			t.Errorf("seed %d plays differently: %+v, %v, then %+v, %v", seed, a, err, b, again)
		}
	}
}
