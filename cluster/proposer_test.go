package cluster_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
)

// TestOutcomes: a rejection is only what raft answers before it writes (DESIGN section 4).
func TestOutcomes(t *testing.T) {
	for err, want := range map[error]cluster.Outcome{
		raft.ErrNotLeader:                    cluster.Rejected,
		raft.ErrEnqueueTimeout:               cluster.Rejected,
		raft.ErrLeadershipTransferInProgress: cluster.Rejected,
		raft.ErrLeadershipLost:               cluster.Unknown,
		raft.ErrRaftShutdown:                 cluster.Unknown,
		raft.ErrAbortedByRestore:             cluster.Unknown,
		errors.New("disk"):                   cluster.Unknown,
	} {
		var got *cluster.OutcomeError
		if !errors.As(cluster.OutcomeOf(err), &got) || got.Outcome != want {
			t.Errorf("%v: %+v, want %v", err, got, want)
		}
	}
}

func add(t *testing.T, p *cluster.Proposer, sizes ...int) {
	t.Helper()
	for _, size := range sizes {
		if err := p.Add(size); err != nil {
			t.Fatal(err)
		}
	}
}

func wantNext(t *testing.T, p *cluster.Proposer, want int) {
	t.Helper()
	if n, ok := p.Next(); n != want || !ok {
		t.Errorf("entry of %d commands, %v; want %d", n, ok, want)
	}
}

// TestGroupCommit is the rule of DESIGN section 6, in a bubble: what waits is seen to wait.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := cluster.NewProposer(64 << 20)
		for range 4 { // below four in flight everything leaves at once
			add(t, p, 10)
			wantNext(t, p, 1)
		}
		add(t, p, 10, 20, 30)
		took := make(chan int, 1)
		go func() { n, _ := p.Next(); took <- n }()
		synctest.Wait()
		if len(took) != 0 {
			t.Error("a fifth small entry left with four in flight")
		}
		p.Landed()
		if n := <-took; n != 3 {
			t.Errorf("%d commands shared the entry, want 3", n)
		}
		add(t, p, 100<<10, 100<<10, 100<<10) // full: leaves whatever is in flight
		wantNext(t, p, 2)
		p.Landed()
		p.Landed()
		wantNext(t, p, 1)
		p.Landed()
		add(t, p, 10, 900<<10, 10) // a large command is an entry of its own
		for range 3 {
			p.Landed()
			wantNext(t, p, 1)
		}
		add(t, p, 1)
		if left := p.Close(); left != 1 {
			t.Errorf("%d commands given back, want 1", left)
		}
		if _, ok := p.Next(); ok {
			t.Error("an entry after close")
		}
	})
}

// TestProposerWaits fills the queue by bytes and by count; Add then waits, and close ends the wait.
func TestProposerWaits(t *testing.T) {
	for name, c := range map[string]struct{ size, fit int }{"bytes": {1000, 9}, "count": {0, 156}} {
		synctest.Test(t, func(t *testing.T) {
			p := cluster.NewProposer(10_000)
			var added int
			ended := make(chan error)
			go func() {
				for {
					if err := p.Add(c.size); err != nil {
						ended <- err
						return
					}
					added++
				}
			}()
			synctest.Wait()
			if added != c.fit {
				t.Errorf("%s: %d commands fit, want %d", name, added, c.fit)
			}
			p.Close()
			var outcome *cluster.OutcomeError
			if err := <-ended; !errors.As(err, &outcome) || outcome.Outcome != cluster.Rejected {
				t.Errorf("%s: %v, want a rejection", name, err)
			}
		})
	}
}
