package client

import (
	"context"
	"errors"
	"time"
)

// Future is the answer to one PublishAsync that is still to come. Futures of one
// partition are completed in the order of its records.
type Future struct {
	batch *pubBatch
	index uint32 // position in the batch
}

// Done is closed when the outcome is known; Wait then returns at once.
func (f *Future) Done() <-chan struct{} { return f.batch.done }

// Wait returns where the record is, or why it is not there: *DeniedError,
// *RejectedError, *UnknownOutcomeError, or an error that matches ErrClosed or
// ErrTimeout. When ctx ends first the error is an *UnknownOutcomeError, because the
// record is still on its way; Wait may be called again.
func (f *Future) Wait(ctx context.Context) (Ack, error) {
	b := f.batch
	select {
	case <-b.done:
		return b.ack(f.index)
	default:
	}
	select {
	case <-b.done:
		return b.ack(f.index)
	case <-ctx.Done():
		return Ack{}, b.unknownOutcome(errors.Join(ended(ctx), b.lastError()))
	}
}

// failed is a future that has its outcome from the start.
func failed(topicName string, err error) *Future {
	b := &pubBatch{topic: topicName, done: make(chan struct{}), err: err}
	close(b.done)
	return &Future{batch: b}
}

// ack is the outcome of record i; done must be closed.
func (b *pubBatch) ack(i uint32) (Ack, error) {
	if b.err != nil {
		return Ack{}, b.err
	}
	return Ack{
		Topic: b.topic, Partition: b.partition, Offset: b.base + int64(i),
		Time: time.UnixMilli(b.timeMs), Duplicate: b.duplicate,
	}, nil
}
