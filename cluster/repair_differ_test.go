package cluster_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
)

// said collects what nodes log. A line can still come when a node has stopped: nobody waits for the last of raft's goroutines.
type said struct {
	mu  sync.Mutex
	out bytes.Buffer // Guarded by mu.
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// lines are those with all of the words.
func (s *said) lines(words ...string) (n int) {
	for line := range strings.Lines(s.String()) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

// TestReplicasDiffer: a node has sealed other batches than the others, at the same entries, and each is whole by itself. Every node
// says so, once; nobody takes or gives up anything by it, since nobody can tell who is wrong.
func TestReplicasDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var words said
		root, twin := t.TempDir(), t.TempDir()
		change := func(o *cluster.Options) {
			o.CompareEvery = time.Minute
			o.Logger = slog.New(slog.NewTextHandler(&words, nil))
		}
		for _, dir := range []string{twin, root} { // the same history twice, with other bytes in segment 2
			c := newCrewIn(t, dir, nil)
			c.ids, c.change = three, change
			for _, id := range three {
				c.start(id)
			}
			p := createTopic(t, c.leader().Group, "orders")
			for i := range 3 {
				body := []byte("the same")
				if i == 1 && dir == twin {
					body = []byte("others!!")
				}
				if r, _, err := c.leader().Group.Do(t.Context(), publish(p, 1, uint64(i), body)); err != nil || !r.Status.Done() {
					t.Fatal(r, err)
				}
				c.seal(c.followers()...)
			}
			c.settle(c.followers()...)
			if dir == twin {
				for _, id := range three {
					c.stop(id)
				}
				continue
			}
			odd := c.followers()[0]
			c.stop(odd.id)
			to := c.segment(odd, second)
			if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(strings.Replace(to, root, twin, 1)))); err != nil {
				t.Fatal(err)
			}
			odd = c.start(odd.id)
			c.settle(odd)
			time.Sleep(10 * time.Minute)
			if got := words.lines("other batches here", second, "node="+string(odd.id)); got != 2 {
				t.Errorf("the others said %d times that %s differs", got, odd.id)
			}
			if got := words.lines("other batches here", second, "nodes_as_that_one=", `damaged_here=""`); got != 4 {
				t.Errorf("%d differences were told of", got)
			}
			for _, m := range c.everybody() {
				if m.Log.NeedsRepair() {
					t.Errorf("%s: %v", m.id, m.Log.Damage())
				}
				want := "the same"
				if m == odd {
					want = "others!!"
				}
				if b, _, _, err := m.Log.Read(p, 1, 1, nil); m == odd && (err != nil || !bytes.Contains(b, []byte(want))) {
					t.Errorf("%s: %q, %v", m.id, b, err)
				}
			}
			// Damage does not bring the others' in, either: the digest that was sealed here says that it is another one.
			flipFile(t, one(t, to, "*.sst"), 20, 1)
			c.scrubbed(odd)
			time.Sleep(10 * time.Minute)
			if !odd.Log.NeedsRepair() || words.lines("segments repaired") > 0 {
				t.Error("a segment with other batches came in the place of a damaged one")
			}
		}
	})
}
