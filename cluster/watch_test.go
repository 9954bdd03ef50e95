package cluster_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// asked is a command's answer, when it comes.
type asked struct {
	answers int
	result  state.Result
	err     error
}

// propose does not wait. The answer comes from a goroutine of the group's: look at it after synctest.Wait.
func propose(g *cluster.Group, cmd []byte) *asked {
	a := new(asked)
	g.Propose(cmd, func(r state.Result, _ uint64, err error) { a.answers, a.result, a.err = a.answers+1, r, err })
	return a
}

func (a *asked) is(outcome cluster.Outcome) bool {
	e, ok := errors.AsType[*cluster.OutcomeError](a.err)
	return a.answers == 1 && ok && e.Outcome == outcome && errors.Is(e, cluster.ErrStalled)
}

// report is what a node says when it ends itself.
type report struct {
	mu  sync.Mutex
	err error // Guarded by mu.
}

func (r *report) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *report) get() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// hangingNode is a node whose next append to the raft log does not return until fault.Disarm.
func hangingNode(t *testing.T, failed *report) (n *clustertest.Node, publishOne func(sequence uint64) *asked) {
	t.Helper()
	n, err := clustertest.OpenOptions(t.Context(), storage.Options{Fail: failed.set}, cluster.Options{Dir: t.TempDir(), Fail: failed.set})
	if err != nil {
		t.Fatal(err)
	}
	p := createTopic(t, n.Group, "orders")
	fault.Arm("raft.append", fault.Hang, 1)
	return n, func(sequence uint64) *asked { return propose(n.Group, publish(p, 1, sequence, []byte("x"))) }
}

// TestDiskStalls: an append that takes 5 s makes what waits unknown and what is new rejected. When it returns the group
// goes on by itself, and a repeat of what was unknown finds it done.
func TestDiskStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed report
		n, publishOne := hangingNode(t, &failed)
		defer n.Stop()
		first := publishOne(0)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if first.answers != 0 {
			t.Fatalf("answered after 4 s: %+v", first)
		}
		second := publishOne(1) // raft's queue takes it
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		if !first.is(cluster.Unknown) || !second.is(cluster.Unknown) {
			t.Errorf("after 6 s: %+v, %+v; want unknown", first, second)
		}
		if late := publishOne(2); !late.is(cluster.Rejected) {
			t.Errorf("new after 6 s: %+v; want rejected", late)
		}
		fault.Disarm()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		again, next := publishOne(1), publishOne(2)
		time.Sleep(time.Second)
		synctest.Wait()
		if again.err != nil || again.result.Status != state.StatusDuplicate || next.err != nil || next.result.Offset != 2 {
			t.Errorf("after the disk answered: %+v, %+v", again, next)
		}
		if first.answers != 1 || second.answers != 1 || failed.get() != nil {
			t.Errorf("%d and %d answers, fail-stop %v", first.answers, second.answers, failed.get())
		}
	})
}

// TestDiskHangs: an append that takes 10 s ends the process, and nothing is acknowledged.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed report
		n, publishOne := hangingNode(t, &failed)
		defer n.Stop()
		defer fault.Disarm()
		first := publishOne(0)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if failed.get() != nil {
			t.Errorf("after 9 s: %v", failed.get())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.Is(failed.get(), cluster.ErrStalled) || !first.is(cluster.Unknown) {
			t.Errorf("after 11 s: fail-stop %v, %+v", failed.get(), first)
		}
	})
}

// TestTwoWritesHang: a write that hangs is seen although another one, beside it, came back.
func TestTwoWritesHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed report
		n, err := clustertest.OpenOptions(t.Context(), storage.Options{Fail: failed.set}, cluster.Options{Dir: t.TempDir(), Fail: failed.set})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Stop()
		n.Group.Hang()
		n.Group.Hang()()
		time.Sleep(11*time.Second + time.Millisecond)
		synctest.Wait()
		if !errors.Is(failed.get(), cluster.ErrStalled) {
			t.Errorf("after 11 s: %v", failed.get())
		}
	})
}

// TestDiskStallsLater: with other limits the group waits for those.
func TestDiskStallsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed report
		n, err := clustertest.OpenOptions(t.Context(), storage.Options{Fail: failed.set}, cluster.Options{Dir: t.TempDir(), Fail: failed.set, StallReject: time.Minute, StallEnd: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Stop()
		n.Group.Hang()
		at := func(name topic.Name, after time.Duration) *asked {
			time.Sleep(after)
			a := propose(n.Group, state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: state.Spec{Partitions: 1}, By: "test"}))
			time.Sleep(time.Second)
			synctest.Wait()
			return a
		}
		if a := at("soon", 55*time.Second); a.answers != 1 || a.err != nil {
			t.Errorf("after 55 s: %+v", a)
		}
		if a := at("late", 10*time.Second); !a.is(cluster.Rejected) {
			t.Errorf("after 65 s: %+v", a)
		}
		if time.Sleep(50 * time.Second); failed.get() != nil {
			t.Errorf("after 115 s: %v", failed.get())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !errors.Is(failed.get(), cluster.ErrStalled) {
			t.Errorf("after 125 s: %v", failed.get())
		}
	})
}
