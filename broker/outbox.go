package broker

import (
	"context"
	"sync"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Sizes of an outbox.
const (
	outboxDeliver = 512 << 10 // above it subscriptions wait
	outboxAnswers = 1 << 20   // above it the reader waits, so that no request is taken whose answer nobody reads
	outboxKeep    = 4 << 10   // what an idle connection keeps of its buffers
)

// outbox is what a connection has to say. Anyone appends, writeLoop takes all at once: one
// write for a burst of answers.
type outbox struct {
	wake  chan struct{} // cap 1
	taken chan struct{} // cap 1: the reader, which waited for room, may look again

	mu      sync.Mutex
	buf     []byte        // Guarded by mu.
	spare   []byte        // Guarded by mu. Buffer that writeLoop gave back.
	waiting bool          // Guarded by mu. A subscription waits for room.
	stopped bool          // Guarded by mu. The reader waits for room.
	drained chan struct{} // Guarded by mu. Closed by take; nil = nobody waits in waitRoom.
	ended   bool          // Guarded by mu. Nothing more is taken.
}

func newOutbox() outbox {
	return outbox{wake: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

// push appends a frame and wakes the writer.
func (o *outbox) push(m protocol.Message, id uint64) {
	o.mu.Lock()
	if !o.ended {
		o.buf = m.AppendFrame(o.room(), id)
	}
	o.mu.Unlock()
	o.signal()
}

// room is the buffer to append to.
func (o *outbox) room() []byte {
	if o.buf == nil && o.spare != nil {
		o.buf, o.spare = o.spare[:0], nil
	}
	return o.buf
}

// deliver appends a DELIVER frame of batches.
func (o *outbox) deliver(m *protocol.Deliver) {
	o.mu.Lock()
	if !o.ended {
		o.buf = append(m.AppendHeader(o.room(), len(m.Batches)), m.Batches...)
	}
	o.mu.Unlock()
	o.signal()
}

// last replaces all that waits by one frame, and takes nothing after it.
func (o *outbox) last(m protocol.Message) {
	o.mu.Lock()
	if !o.ended {
		o.buf = m.AppendFrame(nil, 0)
		o.ended = true
	}
	o.mu.Unlock()
	o.signal()
}

// final appends one frame behind all that waits, and takes nothing after it.
func (o *outbox) final(m protocol.Message) {
	o.mu.Lock()
	if !o.ended {
		o.buf = m.AppendFrame(o.room(), 0)
		o.ended = true
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// hasRoom reports whether a subscription may deliver; if not, the writer will tell when.
func (o *outbox) hasRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = len(o.buf) >= outboxDeliver
	return !o.waiting
}

// awaitRoom holds the reader while the client does not take its answers. Only readLoop calls it.
func (o *outbox) awaitRoom(ctx context.Context) error {
	for {
		o.mu.Lock()
		o.stopped = len(o.buf) >= outboxAnswers && !o.ended
		stopped := o.stopped
		o.mu.Unlock()
		if !stopped {
			return nil
		}
		select {
		case <-o.taken:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitRoom returns when a large answer may be put in.
func (o *outbox) waitRoom(ctx context.Context) error {
	for {
		o.mu.Lock()
		if len(o.buf) < outboxDeliver {
			o.mu.Unlock()
			return nil
		}
		if o.drained == nil {
			o.drained = make(chan struct{})
		}
		drained := o.drained
		o.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take returns all that waits, and whether a subscription waited for room.
func (o *outbox) take() (buf []byte, wanted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	buf, o.buf = o.buf, nil
	wanted, o.waiting = o.waiting, false
	if o.stopped {
		o.stopped = false
		select {
		case o.taken <- struct{}{}:
		default:
		}
	}
	if o.drained != nil {
		close(o.drained)
		o.drained = nil
	}
	return buf, wanted
}

// giveBack returns a buffer for the next burst; an idle connection keeps little.
func (o *outbox) giveBack(buf []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.spare == nil && (cap(buf) <= outboxKeep || o.buf != nil) {
		o.spare = buf[:0]
	}
}
