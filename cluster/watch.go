package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stallEvery is between two looks of the watchdog. raft itself keeps a leader whose disk hangs for ever.
const stallEvery = time.Second

// stall says whether the disk has not answered for too long.
type stall struct {
	mu  sync.Mutex
	now bool          // Guarded by mu.
	on  chan struct{} // Guarded by mu. Closed while it is so.
}

func (s *stall) init() { s.on = make(chan struct{}) }

// began is closed while the disk does not answer.
func (s *stall) began() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

func (s *stall) is() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// set says whether that is a change.
func (s *stall) set(now bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == now {
		return false
	}
	if s.now = now; now {
		close(s.on)
	} else {
		s.on = make(chan struct{})
	}
	return true
}

// watchDisk looks at the writes of the raft log that are under way. One that takes over StallReject makes the group refuse
// commands; those that were handed to raft are answered as unknown, those that were not as rejected. One that takes
// over StallEnd ends the process. A write that returns in between heals everything. It touches no disk itself.
func (g *Group) watchDisk(ctx context.Context) {
	tick := time.NewTicker(stallEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-g.stopped:
			return
		}
		took := g.store.busy.longest()
		if took >= g.options.StallEnd {
			g.fail(fmt.Errorf("%w: a write of the raft log has taken %v", ErrStalled, took.Round(time.Second)))
			return
		}
		g.onStall(took >= g.options.StallReject, took)
	}
}

// onStall takes note of how the disk is.
func (g *Group) onStall(stalled bool, took time.Duration) {
	switch changed := g.stall.set(stalled); {
	case changed && stalled:
		g.metrics.stalls.Inc()
		g.options.Logger.Error("the disk does not answer: commands are refused", "write_took", took.Round(time.Millisecond))
		answerAll(g.proposer.drain(), rejected(ErrStalled))
		if g.links != nil {
			g.links.Suspend(ErrStalled) // this node cannot step down, but the others can miss it
		}
	case changed:
		g.options.Logger.Info("the disk answers again")
		if g.links != nil {
			g.links.Resume()
		}
	}
}
