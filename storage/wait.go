package storage

import (
	"context"
	"sync"

	"github.com/waxwing-mq/waxwing/topic"
)

// Waiter is told, once, when its partition has a record at or behind From, or is dropped.
// The owner keeps it and may use it again after it was told.
type Waiter struct {
	Partition topic.PartitionID
	From      topic.Offset
	Wake      func() // called by Append's goroutine: it must not block, nor call the log
}

// Await registers w. It returns false, and does not register, if the record is there
// already or the partition was dropped.
func (l *Log) Await(w *Waiter) bool {
	p := l.partOrNew(w.Partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped || p.end > w.From {
		return false
	}
	p.waiters = append(p.waiters, w)
	return true
}

// Cancel forgets w; it may still be told by an Append that is under way.
func (l *Log) Cancel(w *Waiter) {
	p := l.part(w.Partition)
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiters {
		if other == w {
			last := len(p.waiters) - 1
			p.waiters[i] = p.waiters[last]
			p.waiters[last] = nil
			p.waiters = p.waiters[:last]
			return
		}
	}
}

// sealSignal wakes those who wait for a segment to be sealed.
type sealSignal struct {
	mu      sync.Mutex
	waiting chan struct{} // Guarded by mu. nil = nobody waits.
}

// wait returns a channel that is closed at the next seal.
func (s *sealSignal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = make(chan struct{})
	}
	return s.waiting
}

func (s *sealSignal) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting != nil {
		close(s.waiting)
		s.waiting = nil
	}
}

// WaitSealed returns when segment number and all before it are sealed.
func (l *Log) WaitSealed(ctx context.Context, number uint64) error {
	for {
		next := l.sealed.wait()
		if h, ok := l.Head(); ok && h.Number >= number {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
