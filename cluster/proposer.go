package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
)

// Sizes of group commit (DESIGN section 6, measured).
const (
	entryBytesMax   = 256 << 10 // an entry leaves when it is this large; a larger command is an entry of its own
	inFlightMax     = 4         // an entry of any size leaves while fewer are in flight
	fullInFlightMax = 16        // full entries go on leaving up to here
	enqueueTimeout  = 5 * time.Second
	placeBytes      = 64 // memory of a waiting command besides its bytes, so that tiny ones are bounded too
)

// Done gets the answer to a command, exactly once, in log order: the result and the index of
// its entry, or an *OutcomeError. It must not block. With ErrStale the index is what must be applied before the request is
// judged again.
type Done func(r state.Result, index uint64, err error)

// proposal is a command that waits.
type proposal struct {
	cmd  []byte
	done Done
}

// entry is what one raft entry carries.
type entry struct {
	proposals []proposal
	future    raft.ApplyFuture
	start     time.Time
}

// proposer gathers commands into entries: group commit with one owner.
type proposer struct {
	max int

	mu       sync.Mutex
	change   *sync.Cond
	queue    []proposal // Guarded by mu.
	bytes    int        // Guarded by mu. Of queue.
	inFlight int        // Guarded by mu. Entries that raft has.
	closed   bool       // Guarded by mu.
}

func (p *proposer) init(max int) {
	p.max = max
	p.change = sync.NewCond(&p.mu)
}

// add queues a command; it waits while the queue is full.
func (p *proposer) add(c proposal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.bytes+len(c.cmd)+(len(p.queue)+1)*placeBytes > p.max && !p.closed {
		p.change.Wait()
	}
	if p.closed {
		return rejected(ErrShutdown)
	}
	p.queue = append(p.queue, c)
	p.bytes += len(c.cmd)
	p.change.Broadcast()
	return nil
}

// next waits until an entry may leave and takes its commands. ok is false once the
// proposer is closed and empty.
func (p *proposer) next() (taken []proposal, size int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.mayLeaveLocked() {
		if p.closed && len(p.queue) == 0 {
			return nil, 0, false
		}
		p.change.Wait()
	}
	size = state.EntryHeaderBytes
	n := 0
	for n < len(p.queue) {
		more := state.CommandOverheadBytes + len(p.queue[n].cmd)
		if n > 0 && size+more > entryBytesMax {
			break
		}
		size += more
		p.bytes -= len(p.queue[n].cmd)
		n++
	}
	taken = p.queue[:n:n]
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil
	}
	p.inFlight++
	p.change.Broadcast()
	return taken, size, true
}

// mayLeaveLocked is the whole rule of group commit; there is no timer.
func (p *proposer) mayLeaveLocked() bool {
	if len(p.queue) == 0 {
		return false
	}
	return p.inFlight < inFlightMax || p.bytes >= entryBytesMax && p.inFlight < fullInFlightMax
}

// landed notes that an entry was answered.
func (p *proposer) landed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	p.change.Broadcast()
}

// close refuses new commands and returns the ones that had not left.
func (p *proposer) close() []proposal {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.drain()
}

// drain returns the commands that had not left.
func (p *proposer) drain() []proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.queue
	p.queue, p.bytes = nil, 0
	p.change.Broadcast()
	return left
}

// size is what waits, in bytes.
func (p *proposer) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}
