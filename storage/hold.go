package storage

import (
	"math"
	"sync"
)

// holds keep segments from being deleted and merged while they are copied.
type holds struct {
	mu   sync.Mutex
	open map[*Hold]struct{} // Guarded by mu.
}

// Hold keeps the sealed segments of a log as they are. Release it.
type Hold struct {
	log     *Log
	through uint64 // Guarded by holds.mu. The last cut that is kept.
}

// Hold stops deleting and merging of every segment, until Export narrows that down to what it copies. It waits for a
// deletion or a merge that is under way: what that one leaves out was trimmed before.
func (l *Log) Hold() *Hold {
	h := &Hold{log: l, through: math.MaxUint64}
	l.holds.mu.Lock()
	if l.holds.open == nil {
		l.holds.open = map[*Hold]struct{}{}
	}
	l.holds.open[h] = struct{}{}
	l.holds.mu.Unlock()
	l.tidy.mu.Lock() // a pass that began before looks no more at what is held once it has the lock again
	defer l.tidy.mu.Unlock()
	return h
}

// narrow keeps only segments up to a cut.
func (h *Hold) narrow(through uint64) {
	h.log.holds.mu.Lock()
	defer h.log.holds.mu.Unlock()
	h.through = through
}

// Release ends the hold; segments may go again. It may be called more than once.
func (h *Hold) Release() {
	h.log.holds.mu.Lock()
	delete(h.log.holds.open, h)
	h.log.holds.mu.Unlock()
	h.log.tidy.wake()
}

// held is the last cut that some hold keeps; 0 = none.
func (t *holds) held() (through uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for h := range t.open {
		through = max(through, h.through)
	}
	return through
}

// sweep deletes segments that are no part of the log any more and that nobody copies now. tidy.mu is held.
func (l *Log) sweep() error {
	through, left := l.holds.held(), l.left
	l.left = nil
	for _, s := range left {
		if s.first <= through {
			l.left = append(l.left, s)
			continue
		}
		if err := l.delete(s); err != nil {
			return err
		}
	}
	return nil
}

// leave deletes a segment that is no part of the log any more, or, if somebody copies it, has that be done later: without
// SEALED, so that a start deletes it. tidy.mu is held.
func (l *Log) leave(s *segment) error {
	if s.first > l.holds.held() {
		return l.delete(s)
	}
	if err := unseal(s.dir); err != nil {
		return err
	}
	l.left = append(l.left, s)
	return nil
}

// delete ends a segment for readers and deletes its folder.
func (l *Log) delete(s *segment) error {
	if err := s.close(); err != nil {
		return err
	}
	l.metrics.deleted.Inc()
	return remove(s.dir)
}
