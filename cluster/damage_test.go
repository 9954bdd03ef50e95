package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// logFile is the size of a file of the raft log in these tests: there must be several.
const logFile = 64 << 10

// site is a stopped node's data folder, in memory, and all that was acknowledged in it.
type site struct {
	files  map[string]siteFile // by name, relative to the folder
	bodies map[topic.PartitionID][][]byte
	view   string
}

// siteFile is a file; what is behind data up to size is zeros.
type siteFile struct {
	data []byte
	size int64
}

// openSite starts a node with small segments and small files of the raft log.
func openSite(ctx context.Context, dir string, fail func(error)) (*clustertest.Node, error) {
	return clustertest.OpenOptions(ctx, storage.Options{SegmentBytes: smallSegment, Fail: fail}, cluster.Options{Dir: dir, SegmentBytes: smallSegment, LogFileBytes: logFile, StallReject: clustertest.Patience, StallEnd: clustertest.Patience, Fail: fail})
}

// newSite fills a node: five topics, four sealed segments, a raft log of several files, a scrub that was over
// some of it, and records behind the newest segment.
func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	n, err := openSite(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	s := &site{files: map[string]siteFile{}, bodies: map[topic.PartitionID][][]byte{}}
	var parts []topic.PartitionID
	for i := range 5 {
		parts = append(parts, createTopic(t, n.Group, topic.Name(fmt.Sprintf("orders.%d", i))))
	}
	r := rand.New(rand.NewPCG(7, 7))
	for segment := range 5 {
		for range lane.Pick(60, 60, 300) {
			p := parts[r.IntN(len(parts))]
			body := make([]byte, r.IntN(1<<r.IntN(14)+1))
			for i := range body {
				body[i] = byte(r.Uint32())
			}
			at := len(s.bodies[p])
			answer, _, err := n.Group.Do(t.Context(), publish(p, 1, uint64(at), body))
			if err != nil || answer.Status != state.StatusOK || answer.Offset != topic.Offset(at) {
				t.Fatalf("publish: %+v, %v", answer, err)
			}
			s.bodies[p] = append(s.bodies[p], body)
		}
		if segment < 4 {
			if err := n.Group.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.Log.WaitSealed(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Log.VerifySegment(t.Context(), "0000000002-0000000002", 0); err != nil {
		t.Fatal(err)
	}
	s.view = viewOf(n)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	s.read(t, dir)
	return s
}

// read takes the folder into memory.
func (s *site) read(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		s.files[name] = siteFile{bytes.TrimRight(data, "\x00"), int64(len(data))}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// write makes the folder.
func (s *site) write(t *testing.T, dir string) {
	t.Helper()
	for name, f := range s.files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.data, 0o600), os.Truncate(path, f.size)); err != nil {
			t.Fatal(err)
		}
	}
}

// viewOf describes the state of a node in words.
func viewOf(n *clustertest.Node) string {
	var b strings.Builder
	view := n.Group.View()
	fmt.Fprintln(&b, view.ClusterID(), view.Policy().Version)
	for p := range view.Partitions() {
		fmt.Fprintln(&b, p.Topic, p.ID, p.Low, p.Next)
	}
	return b.String()
}

// kinds are the kinds of files, each with the names that are of it.
func (s *site) kinds(t *testing.T) map[string][]string {
	t.Helper()
	kinds := map[string][]string{}
	var logs []string
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		base := filepath.Base(name)
		unsealed := strings.HasPrefix(name, "storage/segments/0000000005") || strings.HasPrefix(name, "storage/segments/0000000006")
		switch {
		case unsealed, base == "LOCK", base == "DISCARD", base == "RESERVE":
		case strings.HasSuffix(base, ".wal"):
			logs = append(logs, name)
		default:
			kind := base
			if ext := filepath.Ext(base); ext == ".vlog" || ext == ".sst" {
				kind = ext
			}
			kinds[kind] = append(kinds[kind], name)
		}
	}
	kinds["sealed .wal"], kinds["newest .wal"] = logs[:len(logs)-1], logs[len(logs)-1:]
	want := []string{".sst", ".vlog", "KEYREGISTRY", "MANIFEST", "MARK", "META", "SCRUB", "SEALED", "newest .wal", "node.json", "sealed .wal"}
	if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) || len(logs) < 3 {
		t.Fatalf("kinds of files: %q, want %q; %d files of the raft log", got, want, len(logs))
	}
	return kinds
}

// outcome is what became of a damage.
type outcome string

const (
	refused  outcome = "refused to start"
	corrupt  outcome = "CORRUPT on read"
	verified outcome = "found by verify"
	offline  outcome = "found by a look at the stopped node only"
	harmless outcome = "harmless or healed"
)

// todo is in every refusal: what somebody should do.
var todo = regexp.MustCompile(`restore the data folder|restore from a backup|move its folder|move the folder|delete the file|take it away|set node.id|use that one`)

// meet looks at the stopped node, starts it, and holds all of it against what was acknowledged.
func (s *site) meet(t *testing.T, dir, what string) outcome {
	t.Helper()
	before, _ := look(t, dir)
	var mu sync.Mutex
	var failed error
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	n, err := openSite(ctx, dir, func(err error) { mu.Lock(); failed = err; mu.Unlock() })
	if err != nil {
		if ctx.Err() != nil || !todo.MatchString(err.Error()) {
			t.Errorf("%s: the start was refused without saying what to do: %v", what, err)
		}
		return refused
	}
	defer func() {
		if err := n.Stop(); err != nil && failed == nil {
			t.Logf("%s: stop: %v", what, err)
		}
	}()
	result := s.check(t, n, what)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case failed != nil:
		return refused
	case result == harmless && len(before) > 0:
		return offline
	}
	return result
}

// check reads everything, by offset, and publishes: the state is as it was, and every record is right or CORRUPT.
func (s *site) check(t *testing.T, n *clustertest.Node, what string) outcome {
	t.Helper()
	if got := viewOf(n); got != s.view {
		t.Errorf("%s: the state is another one, without an error:\n%s\n%s", what, got, s.view)
	}
	result := harmless
	for p, bodies := range s.bodies {
		if err := readBodies(n.Log, p, bodies); errors.Is(err, storage.ErrCorrupt) {
			result = corrupt
		} else if err != nil {
			t.Errorf("%s: partition %d: %v", what, p, err)
		}
		last := uint64(len(bodies) - 1)
		r, _, err := n.Group.Do(t.Context(), publish(p, 1, last, bodies[last]))
		if err != nil || r.Status != state.StatusDuplicate || r.Offset != topic.Offset(last) {
			t.Errorf("%s: the newest batch, sent again: %+v, %v", what, r, err)
		}
	}
	for _, st := range n.Log.Status() {
		st, err := n.Log.VerifySegment(t.Context(), st.Name, 0)
		if err != nil {
			t.Errorf("%s: verify: %v", what, err)
		}
		if st.Fault != "" && result == harmless {
			result = verified
		}
	}
	return result
}

// readBodies reads a partition from every place that an earlier fault leaves over. The error is ErrCorrupt if any was met; another
// one means wrong bytes, or a skip.
func readBodies(l *storage.Log, p topic.PartitionID, bodies [][]byte) (worst error) {
	for at := topic.Offset(0); at < topic.Offset(len(bodies)); {
		data, next, _, err := l.Read(p, at, 64<<10, nil)
		if errors.Is(err, storage.ErrCorrupt) {
			worst, at = err, at+1
			continue
		}
		if err != nil {
			return err
		}
		if next <= at {
			return fmt.Errorf("nothing at %d, and no error", at)
		}
		var b batch.Batch
		for len(data) > 0 {
			if data, err = batch.Parse(data, &b); err != nil {
				return err
			}
			var r batch.Record
			for c, i := batch.Records(b.Records), b.Base; c.Next(&r); i++ {
				if b.Partition != p || !bytes.Equal(r.Body, bodies[i]) {
					return fmt.Errorf("record %d has other bytes", i)
				}
			}
			if b.Base > at {
				return fmt.Errorf("records %d to %d were skipped", at, b.Base-1)
			}
			at = b.End()
		}
		if at != next {
			return fmt.Errorf("read to %d, but got up to %d", next, at)
		}
	}
	return worst
}

// tally counts outcomes by kind of file, and prints them.
type tally map[string]map[outcome]int

func (y tally) add(kind string, o outcome) {
	if y[kind] == nil {
		y[kind] = map[outcome]int{}
	}
	y[kind][o]++
}

func (y tally) print(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(y)) {
		t.Logf("%-12s %v", kind, y[kind])
	}
}

// seeded is a source of randomness whose seed is printed; WAXWING_TEST_SEED repeats one.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("WAXWING_TEST_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatalf("WAXWING_TEST_SEED: %v", err)
		}
	}
	t.Logf("WAXWING_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 3))
}

// TestD03BitFlips flips one bit in a file of every kind of a stopped node, at random places: the node refuses to start and
// says what to do, or what is damaged is CORRUPT, or nothing is wrong. Never other bytes, never a skip, never a
// record that was acknowledged and is gone without an error.
func TestD03BitFlips(t *testing.T) {
	s := newSite(t)
	r, kinds, seen := seeded(t), s.kinds(t), tally{}
	names := slices.Sorted(maps.Keys(kinds))
	for i := range lane.Pick(22, 66, 550) {
		kind := names[i%len(names)]
		name := kinds[kind][r.IntN(len(kinds[kind]))]
		at, bit := r.IntN(len(s.files[name].data)), r.IntN(8)
		if end := len(s.files[name].data); kind == ".vlog" && r.IntN(3) == 0 || kind == "newest .wal" && r.IntN(2) == 0 {
			at = end - 1 - r.IntN(min(300, end)) // there lie the checkpoint, and the last append
		}
		dir := t.TempDir()
		s.write(t, dir)
		flipFile(t, filepath.Join(dir, name), int64(at), bit)
		seen.add(kind, s.meet(t, dir, fmt.Sprintf("%s: bit %d of byte %d of %d", name, bit, at, len(s.files[name].data))))
		os.RemoveAll(dir)
	}
	seen.print(t)
}

// flipFile changes one bit in place.
func flipFile(t *testing.T, name string, at int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestD04Files cuts files short, empties a page of them, deletes them and exchanges two of a kind, with the same rules.
func TestD04Files(t *testing.T) {
	s := newSite(t)
	r, kinds, seen := seeded(t), s.kinds(t), tally{}
	names := slices.Sorted(maps.Keys(kinds))
	ways := []string{"cut short", "empty page", "deleted", "exchanged"}
	for i := range lane.Pick(22, 44, 264) {
		kind := names[i%len(names)]
		name, way := kinds[kind][r.IntN(len(kinds[kind]))], ways[(i/len(names)+i%len(names))%len(ways)]
		dir := t.TempDir()
		s.write(t, dir)
		what := s.harm(t, r, dir, name, kinds[kind], way)
		if what == "" {
			continue
		}
		seen.add(kind+" "+way, s.meet(t, dir, what))
		os.RemoveAll(dir)
	}
	seen.print(t)
}

// harm does one damage to a file and says what it was; "" = it cannot be done to this one.
func (s *site) harm(t *testing.T, r *rand.Rand, dir, name string, same []string, way string) string {
	t.Helper()
	path, size := filepath.Join(dir, name), len(s.files[name].data)
	switch way {
	case "cut short":
		at := r.IntN(size)
		if err := os.Truncate(path, int64(at)); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s: cut at %d of %d", name, at, size)
	case "empty page":
		at := r.IntN(size) &^ 4095
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(make([]byte, min(4096, size-at)), int64(at))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s: page at %d of %d is empty", name, at, size)
	case "deleted":
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return name + ": deleted"
	}
	other := same[r.IntN(len(same))]
	if other == name || bytes.Equal(s.files[other].data, s.files[name].data) {
		return ""
	}
	away := filepath.Join(dir, "away")
	if err := errors.Join(os.Rename(path, away), os.Rename(filepath.Join(dir, other), path), os.Rename(away, filepath.Join(dir, other))); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s and %s: exchanged", name, other)
}

// TestD05RunTimeFlips flips bits under the open files of a running node: what is read is right or CORRUPT, and a check of
// the segment finds what a read does not.
func TestD05RunTimeFlips(t *testing.T) {
	s := newSite(t)
	r, kinds, seen := seeded(t), s.kinds(t), tally{}
	names := []string{".vlog", ".sst", "MANIFEST", "KEYREGISTRY", "SEALED"}
	for i := range lane.Pick(10, 30, 200) {
		kind := names[i%len(names)]
		name := kinds[kind][r.IntN(len(kinds[kind]))]
		at, bit := r.IntN(len(s.files[name].data)), r.IntN(8)
		what := fmt.Sprintf("%s: bit %d of byte %d of %d", name, bit, at, len(s.files[name].data))
		dir := t.TempDir()
		s.write(t, dir)
		n, err := openSite(t.Context(), dir, func(err error) { t.Errorf("%s: fail-stop: %v", what, err) })
		if err != nil {
			t.Fatal(err)
		}
		if o := s.check(t, n, what); o != harmless { // everything is open and mapped now
			t.Fatalf("%s before anything was damaged", o)
		}
		flipFile(t, filepath.Join(dir, name), int64(at), bit)
		o := s.check(t, n, what)
		if o == harmless && kind != ".vlog" { // in a value log a bit may belong to nothing that is read
			t.Errorf("%s: nobody noticed", what)
		}
		seen.add(kind, o)
		if (o != harmless) != (n.Log.Damage() != nil) {
			t.Errorf("%s: %s, and the damage that is known: %v", what, o, n.Log.Damage())
		}
		if err := n.Stop(); err != nil {
			t.Errorf("%s: stop: %v", what, err)
		}
		os.RemoveAll(dir)
	}
	seen.print(t)
}
