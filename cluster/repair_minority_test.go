package cluster_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// mended is what became of a damage on a node that is one of three.
const mended outcome = "repaired from another node"

// minority is a crew of three one of whose followers is damaged again and again.
type minority struct {
	*crew
	p      topic.PartitionID
	bodies [][]byte
	r      *rand.Rand

	mu     sync.Mutex
	failed map[raft.ServerID]error // Guarded by mu. Fail-stops.
}

func inMinority(t *testing.T, r *rand.Rand, test func(t *testing.T, c *minority)) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		m := &minority{crew: c, r: r, failed: map[raft.ServerID]error{}}
		c.fail = func(id raft.ServerID, err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.failed[id] = err
		}
		for _, id := range three { // they begin again, with that
			c.stop(id)
		}
		for _, id := range three {
			c.start(id)
		}
		m.p = createTopic(t, c.leader().Group, "orders")
		next := c.sealSome(t, m.p, 0, 4)
		for i := range next {
			m.bodies = append(m.bodies, smallBody(i))
		}
		c.settle(c.followers()...)
		test(t, m)
		for id, err := range m.failed {
			t.Errorf("%s: fail-stop: %v", id, err)
		}
	})
}

// stopped is a fail-stop of a node, once.
func (c *minority) stopped(id raft.ServerID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.failed[id]
	delete(c.failed, id)
	return err
}

// files are a node's by kind: what a start reads.
func (c *minority) files(t *testing.T, id raft.ServerID) map[string][]string {
	t.Helper()
	kinds := map[string][]string{}
	err := filepath.WalkDir(c.dir(id), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind := d.Name()
		if ext := filepath.Ext(kind); ext == ".vlog" || ext == ".sst" || ext == ".wal" {
			kind = ext
		}
		info, err := d.Info()
		_, sealed := os.Lstat(filepath.Join(filepath.Dir(path), storage.SealedFile))
		inSegment := strings.Contains(path, "/segments/")
		switch {
		case err != nil, info.Size() == 0, inSegment && sealed != nil, kind == "LOCK", kind == "DISCARD", kind == "RESERVE":
			return err
		}
		kinds[kind] = append(kinds[kind], path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// content is how far a file goes before its last zeros: behind it a flip means nothing.
func content(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return max(len(strings.TrimRight(string(b), "\x00")), 1)
}

// meets starts a damaged node: it refuses and says what to do, or it reads everything right, or refuses it as CORRUPT and is
// repaired.
func (c *minority) meets(t *testing.T, id raft.ServerID, what string) outcome {
	t.Helper()
	m, err := c.open(id)
	if err != nil {
		if !todo.MatchString(err.Error()) {
			t.Errorf("%s: the start was refused without saying what to do: %v", what, err)
		}
		return refused
	}
	last := c.leader().Group.Raft().LastIndex()
	for wait := 0; m.Group.Raft().AppliedIndex() < last; wait++ {
		if c.stopped(id) != nil {
			c.endBroken(id)
			return refused
		}
		if wait > 1200 {
			t.Fatalf("%s: it does not catch up", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return c.heals(t, m, what)
}

// endBroken stops a node that has failed.
func (c *minority) endBroken(id raft.ServerID) {
	_ = c.nodes[id].stop()
	delete(c.nodes, id)
	c.wire()
}

// heals reads and checks everything on a node, waits for its repair, and reads again.
func (c *minority) heals(t *testing.T, m *member, what string) outcome {
	t.Helper()
	if err := m.Group.Ready(t.Context()); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	before := c.segments.fetched(m.id)
	if err := readBodies(m.Log, c.p, c.bodies); err != nil && !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%s: %v", what, err)
	}
	for _, s := range m.Log.Status() {
		if _, err := m.Log.VerifySegment(t.Context(), s.Name, 0); err != nil && !errors.Is(err, storage.ErrNoSegment) {
			t.Errorf("%s: %v", what, err)
		}
	}
	c.repaired(m)
	if err := readBodies(m.Log, c.p, c.bodies); err != nil {
		t.Errorf("%s: after the repair: %v", what, err)
	}
	c.whole(m)
	if m.Group.Digest() != c.leader().Group.Digest() {
		t.Errorf("%s: another state", what)
	}
	if c.segments.fetched(m.id) > before {
		return mended
	}
	return harmless
}

// TestD03MinorityRepaired (D-03, D-04) flips a bit in a file of every kind of a stopped follower, cuts it short, empties a page,
// deletes it or exchanges it for another: the start is refused and says what to do, or nothing but right bytes and CORRUPT is
// read until another node has repaired it. What is of one sealed segment never refuses the start; an exchange between the two
// newest takes away both checkpoints that the raft log goes on from.
func TestD03MinorityRepaired(t *testing.T) {
	r, seen := seeded(t), tally{}
	inMinority(t, r, func(t *testing.T, c *minority) {
		ways := []string{"flip", "flip", "cut short", "empty page", "deleted", "exchanged"}
		for i := range lane.Pick(6, 20, 600) {
			m := c.followers()[i%2]
			c.settle(m)
			c.stop(m.id)
			kinds := c.files(t, m.id)
			names := slices.Sorted(maps.Keys(kinds))
			kind := names[i%len(names)]
			if lane.Current() < 2 {
				kind = []string{".vlog", ".sst", storage.SealedFile}[i%3]
			}
			name, way := kinds[kind][r.IntN(len(kinds[kind]))], ways[r.IntN(len(ways))]
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(c.dir(m.id))); err != nil {
				t.Fatal(err)
			}
			what := c.harm(t, name, kinds[kind], way)
			o := c.meets(t, m.id, what)
			if o == refused {
				if strings.Contains(name, "/segments/") && strings.Count(what, "/0000000003-")+strings.Count(what, "/0000000004-") < 2 {
					t.Errorf("%s: the start was refused", what)
				}
				if err := errors.Join(os.RemoveAll(c.dir(m.id)), os.CopyFS(c.dir(m.id), os.DirFS(copied))); err != nil {
					t.Fatal(err)
				}
				c.start(m.id)
			}
			seen.add(kind+" "+way, o)
			os.RemoveAll(copied)
		}
		c.leader().fill(t, c.p, len(c.bodies), len(c.bodies)+5)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
	seen.print(t)
}

// harm does one damage to a file of a stopped node.
func (c *minority) harm(t *testing.T, name string, same []string, way string) string {
	t.Helper()
	size := content(t, name)
	at, other := c.r.IntN(size), ""
	var err error
	switch way {
	case "flip":
		flipFile(t, name, int64(at), c.r.IntN(8))
	case "cut short":
		err = os.Truncate(name, int64(at))
	case "deleted":
		err = os.Remove(name)
	case "empty page":
		at &^= 4095
		var f *os.File
		if f, err = os.OpenFile(name, os.O_RDWR, 0); err == nil {
			_, err = f.WriteAt(make([]byte, min(4096, size-at)), int64(at))
			err = errors.Join(err, f.Close())
		}
	case "exchanged":
		other = same[c.r.IntN(len(same))]
		err = errors.Join(os.Rename(name, name+".away"), os.Rename(other, name))
		if other == name {
			err = os.Rename(name+".away", name)
		} else if err == nil {
			err = os.Rename(name+".away", other)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	relative := func(name string) string { return strings.TrimPrefix(name, c.root) }
	return fmt.Sprintf("%s: %s at %d of %d %s", relative(name), way, at, size, relative(other))
}

// TestD05MinorityRepaired flips bits under the open files of a running follower: what is read is right or CORRUPT, and then
// repaired.
func TestD05MinorityRepaired(t *testing.T) {
	r, seen := seeded(t), tally{}
	inMinority(t, r, func(t *testing.T, c *minority) {
		for i := range lane.Pick(5, 15, 300) {
			m := c.followers()[i%2]
			if o := c.heals(t, m, "before"); o != harmless {
				t.Fatalf("%s before anything was damaged", o)
			}
			kind := []string{".vlog", ".sst", "MANIFEST", "KEYREGISTRY", storage.SealedFile}[i%5]
			names := slices.DeleteFunc(c.files(t, m.id)[kind], func(name string) bool { return !strings.Contains(name, "/segments/") })
			name := names[r.IntN(len(names))]
			what := c.harm(t, name, names, "flip")
			o := c.heals(t, m, what)
			if o == harmless && kind != ".vlog" { // in a value log a bit may belong to nothing that is read
				t.Errorf("%s: nobody noticed", what)
			}
			seen.add(kind, o)
		}
		c.leader().fill(t, c.p, len(c.bodies), len(c.bodies)+5)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
	seen.print(t)
}
