package cluster

import (
	"sync"
	"time"
)

// stopwatch knows how long the oldest of the writes that are under way has taken: raft appends while the sealer deletes,
// and either may hang.
type stopwatch struct {
	mu      sync.Mutex
	last    uint64               // Guarded by mu. Number of the newest write.
	running map[uint64]time.Time // Guarded by mu. When each began.
}

// begin notes a write; end takes its number.
func (w *stopwatch) begin() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		w.running = map[uint64]time.Time{}
	}
	w.last++
	w.running[w.last] = time.Now()
	return w.last
}

func (w *stopwatch) end(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, number)
}

// longest is how long the oldest one has taken; 0 = none is under way.
func (w *stopwatch) longest() (took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, since := range w.running {
		took = max(took, time.Since(since))
	}
	return took
}
