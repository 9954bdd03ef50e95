package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// phase is one stretch of publishing, the warm-up or what is measured. Publishers share it.
type phase struct {
	epoch    time.Time // of the run: stamps count from it
	begin    time.Time
	duration time.Duration // 0 = as long as the messages take
	messages uint64        // for all publishers; 0 = as many as the time allows
	every    time.Duration // between two records of one publisher; 0 = closed loop
	stop     <-chan struct{}

	begun  atomic.Uint64
	failed atomic.Bool // a publisher has met an error: the others stop
}

// turn is one publisher's way through a phase. It is for one goroutine.
type turn struct {
	*phase
	offset time.Duration // so that publishers do not all send at the same moment
	sent   uint64
	timer  *time.Timer
}

func (p *phase) turn(publisher, of int) *turn {
	t := &turn{phase: p, timer: time.NewTimer(time.Hour)}
	t.offset = p.every / time.Duration(of) * time.Duration(publisher)
	return t
}

// next waits until the next record is due and returns that time; false = the phase is over.
func (t *turn) next(ctx context.Context) (time.Time, bool) {
	if t.failed.Load() || t.messages > 0 && t.begun.Add(1) > t.messages {
		return time.Time{}, false
	}
	now := time.Now()
	due := now
	if t.every > 0 {
		due = t.begin.Add(t.offset + time.Duration(t.sent)*t.every)
	}
	if t.duration > 0 && t.messages == 0 && due.Sub(t.begin) >= t.duration {
		return time.Time{}, false
	}
	if wait := due.Sub(now); wait > 0 {
		t.timer.Reset(wait)
		select {
		case <-t.timer.C:
		case <-t.stop:
		case <-ctx.Done():
		}
	}
	select {
	case <-t.stop:
		return time.Time{}, false
	case <-ctx.Done():
		return time.Time{}, false
	default:
	}
	t.sent++
	return due, true
}
