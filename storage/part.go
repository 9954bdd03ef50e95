package storage

import (
	"fmt"
	"sort"
	"sync"

	"github.com/waxwing-mq/waxwing/topic"
)

// part is one partition's place in the log.
type part struct {
	id topic.PartitionID

	mu      sync.Mutex
	low     topic.Offset // Guarded by mu. First record that was ever appended here.
	end     topic.Offset // Guarded by mu. Next offset.
	stored  topic.Offset // Guarded by mu. Badger has everything below.
	tail    []Batch      // Guarded by mu. Newest batches, dense, up to end.
	waiters []*Waiter    // Guarded by mu.
	dropped bool         // Guarded by mu.
}

// append adds a batch and returns whom to wake.
func (p *part) append(b *Batch) ([]*Waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped {
		return nil, fmt.Errorf("append to partition %d: %w", b.Partition, ErrClosed)
	}
	if b.Base != p.end || b.Count == 0 {
		return nil, fmt.Errorf("append to partition %d: batch at offset %d with %d records, expected offset %d: %w", p.id, b.Base, b.Count, p.end, ErrCorrupt)
	}
	p.tail = append(p.tail, *b)
	p.end = b.End()
	return p.takeWaitersLocked(), nil
}

// takeWaitersLocked returns the waiters and forgets them: each is told once.
func (p *part) takeWaitersLocked() []*Waiter {
	ws := p.waiters
	p.waiters = nil
	return ws
}

// drop empties the partition and returns whom to wake.
func (p *part) drop() []*Waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped, p.tail, p.end = true, nil, 0
	return p.takeWaitersLocked()
}

// inTail collects batches from the tail: from the one that holds offset on, up to about
// maxBytes. ok is false when offset lies before the tail, and Badger has it.
func (p *part) inTail(offset topic.Offset, maxBytes int, room []Batch) (bs []Batch, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.dropped:
		return nil, true, ErrClosed
	case offset < p.low:
		return nil, true, fmt.Errorf("%w: %d, the first is %d", ErrTrimmed, offset, p.low)
	case offset > p.end:
		return nil, true, fmt.Errorf("%w: %d, the end is %d", ErrRange, offset, p.end)
	case offset == p.end:
		return nil, true, nil
	case len(p.tail) == 0 || offset < p.tail[0].Base:
		return nil, false, nil
	}
	i := sort.Search(len(p.tail), func(i int) bool { return p.tail[i].End() > offset })
	for size := 0; i < len(p.tail) && (len(room) == 0 || size+len(p.tail[i].Raw) <= maxBytes); i++ {
		size += len(p.tail[i].Raw)
		room = append(room, p.tail[i])
	}
	return room, true, nil
}

// wrote notes that Badger has everything below end.
func (p *part) wrote(end topic.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = max(p.stored, end)
}

// evict forgets the oldest batch of the tail if Badger has it, and reports whether it did.
// A dropped partition has nothing left to forget, which counts as done.
func (p *part) evict() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tail) == 0 {
		return true
	}
	if p.tail[0].End() > p.stored {
		return false
	}
	p.tail[0] = Batch{}
	p.tail = p.tail[1:]
	return true
}
