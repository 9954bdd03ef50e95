package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// freeBlobs bounds the buffers kept for reuse, freeBlobBytes the size of each.
const (
	freeBlobs     = 32
	freeBlobBytes = DefaultBatchBytes
)

// producer turns records into batches and batches into PUBLISH frames, and keeps each
// until its outcome is known. add is called by the program, fill by writeLoop,
// onPublished and onRejected by readLoop.
type producer struct {
	client *Client
	id     [16]byte

	mu sync.Mutex
	// Guarded by mu.
	sess         *session      // nil while disconnected, or between two
	drained      chan struct{} // closed when the session that is being left has nothing unanswered; nil = nobody waits for that
	refused      error         // why new records are refused, nil if they are not
	closed       bool
	recordLimits batch.Limits
	window       int // bytes that may be unresolved
	used         int // bytes that are
	room         []chan struct{}
	topics       map[string]*topicState
	latest       *topicState  // of the latest record: saves the map look-up
	ready        []*partition // sendable ones, first come first served
	floor        uint64       // first epoch of a partition that is new to us
	free         [][]byte
	lookedAt     time.Time // when growing topics were last looked for
}

func newProducer(c *Client) *producer {
	p := &producer{client: c, topics: make(map[string]*topicState), window: c.opts.WindowBytes, lookedAt: time.Now()}
	rand.Read(p.id[:]) // never fails
	return p
}

// add copies the record into its partition's open batch, waiting for metadata on the
// first record of a topic and for room in the window.
func (p *producer) add(ctx context.Context, name string, r *batch.Record, opt PublishOption) (*Future, error) {
	n := batch.RecordLen(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	t, err := p.topicLocked(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := p.checkLocked(name, r); err != nil {
		return nil, err
	}
	if err := p.awaitRoomLocked(ctx, name, n); err != nil {
		return nil, err
	}
	if t.err != nil { // forgotten while we waited
		return nil, t.err
	}
	q, err := t.pick(r.Key, n, opt)
	if err != nil {
		return nil, err
	}
	b := p.openBatchLocked(q, n)
	before := len(b.blob)
	f := b.add(r)
	p.used += len(b.blob) - before
	p.offerLocked(q)
	return f, nil
}

// awaitRoomLocked waits until n more bytes fit the window. A record larger than the
// window is let in when it is alone. mu is released while waiting.
func (p *producer) awaitRoomLocked(ctx context.Context, name string, n int) error {
	for p.refused == nil && p.used > 0 && p.used+n > p.window {
		room := make(chan struct{})
		p.room = append(p.room, room)
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			return fmt.Errorf("publish %q: not sent, the window of %d bytes is full of unacknowledged records: %w", name, p.window, ended(ctx))
		}
	}
	if p.refused != nil {
		return fmt.Errorf("publish %q: %w", name, p.refused)
	}
	return nil
}

// openBatchLocked returns the batch that takes a record of n bytes.
func (p *producer) openBatchLocked(q *partition, n int) *pubBatch {
	if p.fitsLocked(q, n) {
		return q.open
	}
	b := &pubBatch{topic: q.topic.name, partition: q.num, queue: q, done: make(chan struct{}), born: time.Now(), blob: p.blobLocked()}
	q.batches = append(q.batches, b)
	q.open = b
	return b
}

// fitsLocked says whether the open batch takes a record of n bytes.
func (p *producer) fitsLocked(q *partition, n int) bool {
	b := q.open
	return b != nil && int(b.count) < p.recordLimits.Records &&
		len(b.blob)+n <= min(p.client.opts.BatchBytes, p.recordLimits.Bytes)
}

func (p *producer) blobLocked() []byte {
	if last := len(p.free) - 1; last >= 0 {
		b := p.free[last]
		p.free = p.free[:last]
		return b
	}
	return make([]byte, 0, 1024)
}

// offerLocked puts the partition on the ready list if it has something to send.
func (p *producer) offerLocked(q *partition) {
	if p.sess == nil || q.ready || !q.sendable() {
		return
	}
	q.ready = true
	p.ready = append(p.ready, q)
	poke(p.sess.wake)
}

// fill appends PUBLISH frames of ready partitions, one batch of each in turn, until
// buf is about limit long.
func (p *producer) fill(s *session, buf []byte, limit int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sess != s {
		return buf
	}
	for len(buf) < limit && len(p.ready) > 0 {
		q := p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		q.ready = false
		if q.sendable() {
			buf = p.appendBatchLocked(buf, q.pop())
			p.offerLocked(q)
		}
	}
	return buf
}

func (p *producer) appendBatchLocked(buf []byte, b *pubBatch) []byte {
	b.id, b.via = p.sess.ids.Add(1), p.sess
	p.sess.pubs[b.id] = b
	m := protocol.Publish{
		Topic: b.topic, Partition: b.partition, Incarnation: b.inc,
		Producer: p.id, Epoch: b.epoch, Sequence: b.seq, Count: b.count, Records: b.blob,
	}
	return m.AppendFrame(buf, b.id)
}

// finishLocked completes a batch: its futures, its bytes, its place in the queue.
func (p *producer) finishLocked(b *pubBatch, err error) {
	b.queue.remove(b)
	b.err = err
	p.used -= len(b.blob)
	if len(p.free) < freeBlobs && cap(b.blob) <= 2*freeBlobBytes {
		p.free = append(p.free, b.blob[:0])
	}
	b.blob, b.futures = nil, nil
	close(b.done)
	for _, room := range p.room {
		close(room)
	}
	p.room = p.room[:0]
}

// attach lets a new session carry what is unresolved.
func (p *producer) attach(s *session) {
	p.mu.Lock()
	p.sess, p.recordLimits = s, recordLimits(&s.welcome.Limits)
	p.window = int(min(uint64(p.client.opts.WindowBytes), s.welcome.Limits.WindowBytes))
	if !p.closed {
		p.refused = nil
	}
	var stale []*topicState
	for _, t := range p.topics {
		if t.refreshing {
			stale = append(stale, t)
		}
		for _, q := range t.parts {
			p.offerLocked(q)
		}
	}
	p.mu.Unlock()
	for _, t := range stale {
		p.ask(s, t)
	}
}

// use makes s the session that carries what is published; nil = there is none. One call at a time.
func (p *producer) use(s *session) {
	p.mu.Lock()
	old := p.sess
	if old == s && !p.closed && s != nil {
		p.refused = nil
	}
	p.mu.Unlock()
	if old == s {
		return
	}
	if old != nil {
		p.leave(old)
	}
	if s != nil {
		p.attach(s)
	}
}

// leave takes a session out of use. What it has sent may still be answered as long as it lives, for drainTimeout; the rest
// is lost until it is sent again, and later answers are ignored.
func (p *producer) leave(s *session) {
	p.mu.Lock()
	p.sess = nil
	for _, q := range p.ready {
		q.ready = false
	}
	p.ready = p.ready[:0]
	p.drained = make(chan struct{})
	drained := p.drained
	p.drainedLocked(s)
	p.mu.Unlock()
	late := time.NewTimer(drainTimeout)
	defer late.Stop()
	select {
	case <-drained:
	case <-s.done:
	case <-late.C:
	}
	err := s.reason()
	if err == nil {
		err = errMoved
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range s.pubs {
		s.pubs[id] = nil
	}
	for _, t := range p.topics {
		for _, q := range t.parts {
			q.connectionLost(err)
		}
	}
}

// drainedLocked ends the wait of leave once nothing is unanswered.
func (p *producer) drainedLocked(s *session) {
	if p.drained != nil && p.sess == nil && len(s.pubs) == 0 {
		close(p.drained)
		p.drained = nil
	}
}

// inUse says whether anything was ever published.
func (p *producer) inUse() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.topics) > 0
}

// refuseNew lets no new record in.
func (p *producer) refuseNew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.refused = true, ErrClosed
	p.wakeAllLocked()
}

func (p *producer) wakeAllLocked() {
	for _, room := range p.room {
		close(room)
	}
	p.room = nil
}

// failAll ends everything that is unresolved with err, and refuses new records until
// the next attach.
func (p *producer) failAll(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = err
	for _, t := range p.topics {
		p.failTopicLocked(t, fmt.Errorf("publish %q: %w", t.name, err))
	}
	p.wakeAllLocked()
}

// flush waits for every record that was added before.
func (p *producer) flush(ctx context.Context) error {
	var first error
	for _, b := range p.unresolved() {
		select {
		case <-b.done:
		case <-ctx.Done():
			return ended(ctx)
		}
		if first == nil {
			first = b.err
		}
	}
	return first
}

// unresolved returns all batches without an outcome.
func (p *producer) unresolved() []*pubBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*pubBatch
	for _, t := range p.topics {
		for _, q := range t.parts {
			all = append(all, q.batches...)
			q.open = nil // later records are not waited for
		}
	}
	return all
}

// expire ends batches that are older than the request timeout.
func (p *producer) expire(now time.Time, lastErr error) {
	if p.client.opts.RequestTimeout < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.topics {
		for _, q := range t.parts {
			p.expireLocked(q, now, lastErr)
		}
	}
}

func (p *producer) expireLocked(q *partition, now time.Time, lastErr error) {
	limit := p.client.opts.RequestTimeout
	for len(q.batches) > 0 && now.Sub(q.batches[0].born) > limit {
		b := q.batches[0]
		if b.last == nil {
			b.last = lastErr
		}
		p.abandonLocked(b, fmt.Errorf("publish %q: %w", b.topic, timeoutError(limit, b.last)))
	}
	q.settle()
	p.offerLocked(q)
}

func timeoutError(limit time.Duration, last error) error {
	if last == nil {
		return fmt.Errorf("%w after %s without an answer", ErrTimeout, limit)
	}
	return fmt.Errorf("%w after %s: %w", ErrTimeout, limit, last)
}

// abandonLocked ends a batch whose outcome nobody will wait for any longer.
func (p *producer) abandonLocked(b *pubBatch, err error) {
	q := b.queue
	if b.state == sent {
		b.via.pubs[b.id] = nil // a late answer is welcome and ignored
	}
	switch {
	case b.maybeStored():
		q.renumber = true // the higher epoch fences it
		err = b.unknownOutcome(err)
	case b.state == rejected:
		q.leaveHole(b)
	}
	p.finishLocked(b, err)
}
