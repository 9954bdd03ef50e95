package client

import (
	"time"

	"github.com/waxwing-mq/waxwing/batch"
)

// batchState says where a batch is on its way.
type batchState uint8

const (
	queued   batchState = iota // not sent, has no sequence
	sent                       // waits for its answer on this session
	lost                       // sent, no answer will come: to be sent again as it is
	rejected                   // definitely not in the log: to be numbered anew
)

// futuresPerSlab is how many futures are allocated at once, at most.
const futuresPerSlab = 64

// pubBatch is records of one partition that travel, succeed and fail together. One
// channel completes all their futures.
type pubBatch struct {
	topic     string
	partition uint32
	done      chan struct{}

	// Written before done is closed, read after.
	base      int64
	timeMs    int64
	duplicate bool
	err       error

	// Guarded by producer.mu.
	queue   *partition // nil in a failed future
	blob    []byte
	count   uint32
	futures []Future
	born    time.Time
	state   batchState
	unknown bool  // an earlier attempt may be in the log
	last    error // why the latest attempt failed
	id      uint64
	via     *session // that it was sent over last
	inc     uint64
	epoch   uint64
	seq     uint64
}

// add appends a record and returns its future.
func (b *pubBatch) add(r *batch.Record) *Future {
	b.blob = batch.AppendRecord(b.blob, r)
	if len(b.futures) == cap(b.futures) {
		b.futures = make([]Future, 0, min(futuresPerSlab, max(1, int(b.count)))) // the full slab lives on in its futures
	}
	b.futures = append(b.futures, Future{batch: b, index: b.count})
	b.count++
	return &b.futures[len(b.futures)-1]
}

// maybeStored says whether the log may hold the batch although no answer said so.
func (b *pubBatch) maybeStored() bool {
	return b.state == sent || b.state == lost || b.unknown
}

func (b *pubBatch) unknownOutcome(err error) error {
	return &UnknownOutcomeError{Op: "publish", Resource: b.topic, Err: err}
}

// lastError is why the latest attempt failed, nil if none did.
func (b *pubBatch) lastError() error {
	if b.queue == nil {
		return nil
	}
	mu := &b.queue.topic.producer.mu
	mu.Lock()
	defer mu.Unlock()
	return b.last
}
