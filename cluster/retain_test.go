package cluster_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// createLimited makes a topic with limits and returns its partition.
func createLimited(t testing.TB, g *cluster.Group, name topic.Name, spec state.Spec) topic.PartitionID {
	t.Helper()
	spec.Partitions = 1
	r, _, err := g.Do(t.Context(), state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: spec, By: "test"}))
	if err != nil || r.Status != state.StatusOK {
		t.Fatalf("create topic: %+v, %v", r, err)
	}
	return r.Topic.Partitions[0]
}

func lowOf(g *cluster.Group, p topic.PartitionID) topic.Offset {
	part, _ := g.View().Partition(p)
	return part.Low
}

// TestRetainRecordsAndBytes holds two topics to their limits, now and after a restart.
func TestRetainRecordsAndBytes(t *testing.T) {
	dir := t.TempDir()
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	few := createLimited(t, n.Group, "few", state.Spec{MaxRecords: 7})
	small := createLimited(t, n.Group, "small", state.Spec{MaxBytes: 200 << 10})
	all := createLimited(t, n.Group, "all", state.Spec{})
	for _, p := range []topic.PartitionID{few, small, all} {
		fillTopic(t, n, p, 0, 40) // of 64 KiB
	}
	if err := n.Group.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, s, a := lowOf(n.Group, few), lowOf(n.Group, small), lowOf(n.Group, all); f != 33 || s < 36 || s > 39 || a != 0 {
		t.Errorf("low offsets %d, %d, %d", f, s, a)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n = clustertest.Start(t, dir)
	if got := lowOf(n.Group, few); got != 33 {
		t.Errorf("low offset %d after the restart", got)
	}
	checkTopic(t, n, few, 33, 40)
	checkTopic(t, n, all, 0, 40)
}

// TestRetainAge: a record is readable for its topic's age and gone soon after, without anybody asking.
func TestRetainAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.Start(t, t.TempDir())
		p := createLimited(t, n.Group, "brief", state.Spec{MaxAgeMs: uint64(24 * time.Minute.Milliseconds())})
		for i := range 10 {
			fillTopic(t, n, p, i, i+1)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if got := lowOf(n.Group, p); got != 0 {
			t.Errorf("low offset %d after 10 minutes", got)
		}
		time.Sleep(14*time.Minute + 30*time.Second)
		synctest.Wait()
		if got := lowOf(n.Group, p); got != 1 {
			t.Errorf("low offset %d after 24 minutes and a half, want 1", got)
		}
		checkTopic(t, n, p, 1, 10)
		time.Sleep(24 * time.Minute)
		synctest.Wait()
		if got := lowOf(n.Group, p); got != 10 {
			t.Errorf("low offset %d after 48 minutes, want 10", got)
		}
	})
}

// tenant is a topic of TestDiskStaysBounded: how much it gets in a round, and how much of it stays.
type tenant struct {
	name    topic.Name
	spec    state.Spec
	records int // a round
	body    int
	p       topic.PartitionID
	next    int
}

func (w *tenant) round(t *testing.T, n *clustertest.Node) {
	t.Helper()
	for range w.records {
		r, _, err := n.Group.Do(t.Context(), publish(w.p, 1, uint64(w.next), bytes.Repeat([]byte{byte(w.next), byte(w.next >> 8)}, w.body/2)))
		if err != nil || r.Status != state.StatusOK {
			t.Fatalf("%s: publish: %+v, %v", w.name, r, err)
		}
		w.next++
	}
}

// TestDiskStaysBounded lets topics with all kinds of limits share segments with ones that keep all, for a long time. After
// each round the sealed segments take less than twice what is readable and a fixed number of segments: the newest two stay
// as they are, and neighbours are merged once there are enough of them. A small topic that keeps all is in every
// segment, and pins none.
func TestDiskStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		n := clustertest.StartWith(t, dir, smallSegment)
		minute := uint64(time.Minute.Milliseconds())
		tenants := []*tenant{
			{name: "pins", records: 2, body: 500},
			{name: "keeps", records: 2, body: 32 << 10},
			{name: "bytes", spec: state.Spec{MaxBytes: 2 << 20}, records: 30, body: 32 << 10},
			{name: "more-bytes", spec: state.Spec{MaxBytes: 6 << 20}, records: 10, body: 64 << 10},
			{name: "records", spec: state.Spec{MaxRecords: 10}, records: 20, body: 16 << 10},
			{name: "age", spec: state.Spec{MaxAgeMs: 10 * minute}, records: 8, body: 16 << 10},
			{name: "all-three", spec: state.Spec{MaxAgeMs: 30 * minute, MaxBytes: 1 << 20, MaxRecords: 1000}, records: 100, body: 2000},
		}
		for _, w := range tenants {
			w.p = createLimited(t, n.Group, w.name, w.spec)
		}
		written, worst := int64(0), 0.0
		measure := func(what string) {
			t.Helper()
			synctest.Wait() // everything that retention began is done
			used, live := sealedBytes(t, dir), readable(n, tenants)
			if used > 2*live+fixedSegments*smallSegment {
				t.Errorf("%s: sealed segments take %d KiB for %d KiB of readable records", what, used>>10, live>>10)
			}
			worst = max(worst, float64(used-fixedSegments*smallSegment)/float64(live))
			if segments := int64(len(n.Log.Status())); segments > 3*live/smallSegment+manySegments {
				t.Errorf("%s: %d segments for %d KiB of readable records", what, segments, live>>10)
			}
		}
		rounds := lane.Pick(10, 20, 1000)
		for i := range rounds {
			for _, w := range tenants {
				w.round(t, n)
				written += int64(w.records * w.body)
			}
			time.Sleep(time.Minute)
			measure(fmt.Sprintf("round %d", i))
		}
		for i := range lane.Pick(10, 20, 300) { // a quiet broker cuts a small segment an hour
			tenants[0].round(t, n)
			time.Sleep(61 * time.Minute)
			measure(fmt.Sprintf("quiet hour %d", i))
		}
		for _, w := range tenants[:2] {
			if low := lowOf(n.Group, w.p); low != 0 {
				t.Errorf("%s lost records below %d", w.name, low)
			}
			if err := n.Log.Covered(w.p, 0, topic.Offset(w.next)); err != nil {
				t.Error(err)
			}
		}
		t.Logf("%d MiB written, %d MiB readable in %d segments, at worst %.2f times what was readable and %d segments", written>>20, readable(n, tenants)>>20, len(n.Log.Status()), worst, fixedSegments)
	})
}

// fixedSegments are those that disk use is allowed beside twice the live data: the newest two, and what waits for enough
// neighbours.
const fixedSegments = 4

// manySegments are those that there may be beside three for each that the live data would fill: some too small to be
// written again yet, a few of each size.
const manySegments = 24

// readable is how many bytes of records the low offsets leave.
func readable(n *clustertest.Node, tenants []*tenant) (sum int64) {
	for _, w := range tenants {
		p, _ := n.Group.View().Partition(w.p)
		sum += int64(p.Next-p.Low) * int64(w.body)
	}
	return sum
}

// sealedBytes is what the files of sealed segments take.
func sealedBytes(t *testing.T, dir string) (sum int64) {
	t.Helper()
	sealed, err := filepath.Glob(filepath.Join(dir, "storage", "segments", "*", "SEALED"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sealed {
		err := filepath.WalkDir(filepath.Dir(name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512 // a file may have holes
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sum
}
