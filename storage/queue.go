package storage

import "sync"

// chunk is what the writer takes at once: batches in append order, or a cut alone.
type chunk struct {
	batches []Batch
	bytes   int64
	cut     *queuedCut
}

// queuedCut is a cut between two batches.
type queuedCut struct {
	Cut
	from uint64 // raft index of the first entry in the segment that it ends
}

// queue holds what Badger does not have yet, in append order.
type queue struct {
	max int64

	mu      sync.Mutex
	room    *sync.Cond
	chunks  []chunk       // Guarded by mu. The last one grows.
	usual   int           // Guarded by mu. Batches of the chunk that was taken last: the next will have about as many.
	bytes   int64         // Guarded by mu. Of the batches in chunks.
	writing int64         // Guarded by mu. Of what the writer took and has not written.
	closed  error         // Guarded by mu. Why nothing is taken any more; nil = open.
	full    chan struct{} // cap 1: enough is queued to be worth a write
}

func (q *queue) init(max int64) {
	q.max = max
	q.room = sync.NewCond(&q.mu)
	q.full = make(chan struct{}, 1)
}

// wait returns when there is room.
func (q *queue) wait() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes+q.writing >= q.max && q.closed == nil {
		q.room.Wait()
	}
	return q.closed
}

// put adds a batch; the caller waited for room.
func (q *queue) put(b *Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := len(q.chunks) - 1
	if last < 0 || q.chunks[last].cut != nil || q.chunks[last].bytes >= chunkBytesMax {
		q.chunks = append(q.chunks, chunk{batches: make([]Batch, 0, q.usual)})
		last++
	}
	c := &q.chunks[last]
	c.batches = append(c.batches, *b)
	c.bytes += int64(len(b.Raw))
	if q.bytes += int64(len(b.Raw)); q.bytes >= min(chunkBytesMin, q.max/2) {
		q.tell()
	}
}

// putCut adds a cut; the caller waited for room.
func (q *queue) putCut(c *queuedCut) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chunks = append(q.chunks, chunk{cut: c})
	q.tell()
}

func (q *queue) tell() {
	select {
	case q.full <- struct{}{}:
	default:
	}
}

// take removes the oldest chunk, of about chunkBytesMax at most, for the writer, whose it is from now on. It is empty if
// nothing is queued.
func (q *queue) take() (c chunk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		return chunk{}
	}
	c, q.chunks[0] = q.chunks[0], chunk{}
	if q.chunks = q.chunks[1:]; len(q.chunks) == 0 {
		q.chunks = nil
	}
	if c.cut == nil {
		q.usual = len(c.batches)
	}
	q.bytes -= c.bytes
	q.writing += c.bytes
	return c
}

// wrote gives the room of what was taken back.
func (q *queue) wrote() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = 0
	q.room.Broadcast()
}

// empty forgets what is queued.
func (q *queue) empty() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chunks, q.bytes, q.writing = nil, 0, 0
	q.room.Broadcast()
}

// close ends every wait, with the first reason given.
func (q *queue) close(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = why
	}
	q.room.Broadcast()
}

// size is what Badger does not have yet, in bytes.
func (q *queue) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes + q.writing
}
