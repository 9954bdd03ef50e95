package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/storage/plan"
)

// filling tells how full the active segment is. The state machine adds, rotateLoop looks.
type filling struct {
	enough int64
	signal chan struct{} // cap 1: the first entry came, or enough

	mu    sync.Mutex
	bytes int64     // Guarded by mu. Of entries since the cut.
	since time.Time // Guarded by mu. When the first of them came.
}

func newFilling(enough int64) *filling {
	return &filling{enough: enough, signal: make(chan struct{}, 1)}
}

func (f *filling) add(bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.bytes == 0
	if first {
		f.since = time.Now()
	}
	if f.bytes += int64(bytes); first || f.bytes >= f.enough {
		select {
		case f.signal <- struct{}{}:
		default:
		}
	}
}

func (f *filling) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes = 0
}

// due says whether the segment must be cut, and, if not, when to look again; 0 = it is empty.
func (f *filling) due(age time.Duration) (now bool, in time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bytes == 0 {
		return false, 0
	}
	in = age - time.Since(f.since)
	return f.bytes >= f.enough || in <= 0, in
}

// rotateAgain is when a leader that could not cut tries again.
const rotateAgain = time.Second

// rotateLoop proposes a cut when the active segment is full or old. Every replica cuts where that command stands.
func (g *Group) rotateLoop(ctx context.Context) {
	timer := time.NewTimer(g.options.SegmentAge)
	defer timer.Stop()
	for {
		select {
		case <-g.fsm.filling.signal:
		case <-timer.C:
		case <-ctx.Done():
			return
		case <-g.stopped:
			return
		}
		now, in := g.fsm.filling.due(g.options.SegmentAge)
		if now {
			in = rotateAgain
			if err := g.rotate(ctx); err != nil {
				g.options.Logger.Warn("the segment was not cut; it is tried again", "error", err)
			}
		}
		if in > 0 {
			timer.Reset(in)
		}
	}
}

// rotate proposes the cut. A second one for the same segment changes nothing.
func (g *Group) rotate(ctx context.Context) error {
	leads, err := g.leads()
	if !leads || err != nil {
		return err
	}
	_, _, err = g.Do(ctx, state.AppendRotate(nil, &state.Rotate{Segment: g.View().Segment()}))
	return err
}

// Rotate cuts the active segment now, and returns once the cut is applied. Sealing goes on in the background.
func (g *Group) Rotate(ctx context.Context) error { return g.rotate(ctx) }

// compact drops the raft log that the sealed segments replace: all but the newest one's own entries, and the window.
// The entry of the point itself stays: raft compares with it (reference rule 4).
func (g *Group) compact(h storage.Head) {
	keep := plan.KeepLog(h.From, h.Point.Index, plan.LogWindow)
	if from, ok := g.options.Log.NeedsLog(); ok {
		keep = min(keep, max(from, 2)-1) // a damaged segment is filled again from here
	}
	if from, ok := g.installs.lease.kept(); ok {
		keep = min(keep, from) // somebody is being filled up to there, and goes on from the log
	}
	err := g.store.compact(keep)
	if err != nil {
		return // the log is closed, or it was reported and the process ends
	}
	g.options.Logger.Debug("raft log compacted", "first", keep, "sealed", h.Point.Index)
}
