package cluster

import (
	"math"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/storage"
)

// Times of a lease.
const (
	leaseIdle = time.Minute // without a request; raft tries an install again after 10 s at the latest
	leaseMax  = time.Hour   // then it is not made longer, and ends within leaseIdle, whoever still fetches
)

// lease keeps what other nodes fetch: no segment is deleted or merged, and the raft log keeps its entries from the oldest
// snapshot on that was handed out (reference rule 4). It ends by itself when nobody asks any more.
type lease struct {
	log *storage.Log

	mu     sync.Mutex
	hold   *storage.Hold // Guarded by mu. nil = nobody fetches.
	keep   uint64        // Guarded by mu. The raft log stays from here on.
	since  time.Time     // Guarded by mu.
	timer  *time.Timer   // Guarded by mu.
	closed bool          // Guarded by mu.
}

// open begins a lease for a snapshot that is handed out, if there is none. It does not make one last longer: raft opens
// snapshots for a node that cannot be reached, too, as long as that is so.
func (l *lease) open(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case l.hold == nil:
		l.beginLocked(index)
	default:
		l.keep = min(l.keep, index)
	}
}

// asked makes a lease last longer, or begins one: a segment was asked for.
func (l *lease) asked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case l.hold == nil:
		l.beginLocked(math.MaxUint64)
	case time.Since(l.since) < leaseMax:
		l.timer.Reset(leaseIdle)
	}
}

func (l *lease) beginLocked(keep uint64) {
	l.hold, l.keep, l.since = l.log.Hold(), keep, time.Now()
	l.timer = time.AfterFunc(leaseIdle, l.expire)
}

// expire ends a lease that nobody renewed.
func (l *lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
}

func (l *lease) endLocked() {
	if l.hold == nil {
		return
	}
	l.timer.Stop()
	l.hold.Release()
	l.hold = nil
}

// close ends it for good.
func (l *lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
	l.closed = true
}

// kept is the first entry that the raft log must keep; ok is false if nobody asks for any.
func (l *lease) kept() (index uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keep, l.hold != nil && l.keep != math.MaxUint64
}
