package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// messagesPerSlab is how many messages are allocated at once, at most.
const messagesPerSlab = 64

// reader is the half of a subscription that belongs to the reading goroutine: it
// walks from delivery to batch to record. Nothing here locks per record.
type reader struct {
	waiting    []delivery // taken from the queue, not yet begun
	current    delivery   // the one being read
	rest       []byte     // batches of current that were not begun
	batch      batch.Batch
	records    batch.Cursor
	record     batch.Record
	offset     int64   // of the next record of records
	left       int     // records left in records
	mortal     bool    // records of the batch have a time to live
	template   Message // what all messages of the batch share
	slab       []Message
	unfinished int // StopAtEnd: partitions that have not reached their end
}

// Messages goes over the messages until the subscription ends. After Close and, with
// StopAtEnd, at the end the loop just ends; any other end is yielded as an error.
// Leaving the loop does not close the subscription: another loop goes on behind it.
func (s *Subscription) Messages() iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := s.Next(context.Background())
			if err == io.EOF || err == ErrClosed {
				return
			}
			if !yield(m, err) {
				return
			}
			if err == nil {
				continue
			}
			if _, goesOn := err.(Event); !goesOn {
				return
			}
		}
	}
}

// Next returns the next message, waiting for it until ctx ends. Errors: io.EOF at the
// end that StopAtEnd asked for, ErrClosed after Close, the context's error when the
// context given to Subscribe has ended; *GapEvent, *RecreatedEvent and *CutEvent as
// SubscribeOptions.OnEvent says; anything else ends the subscription.
func (s *Subscription) Next(ctx context.Context) (*Message, error) {
	for {
		if s.aborted.Load() {
			return nil, s.reason()
		}
		if m := s.nextRecord(); m != nil {
			return m, nil
		}
		if err := s.advance(ctx); err != nil {
			return nil, err
		}
	}
}

// nextRecord returns the next record of the current batch that is to be handed out.
func (s *Subscription) nextRecord() *Message {
	for s.left > 0 && s.records.Next(&s.record) {
		offset := s.offset
		s.offset++
		s.left--
		if s.wanted(offset) {
			s.current.part.position = offset + 1
			return s.message(offset)
		}
	}
	return nil
}

// wanted leaves out what is before the start, behind the end, or expired.
func (s *Subscription) wanted(offset int64) bool {
	p := s.current.part
	if offset < p.position || offset >= p.stop {
		return false
	}
	return !s.mortal || !s.batch.Expired(&s.record, time.Now().UnixMilli())
}

func (s *Subscription) message(offset int64) *Message {
	if len(s.slab) == 0 {
		s.slab = make([]Message, min(messagesPerSlab, s.left+1))
	}
	m := &s.slab[0]
	s.slab = s.slab[1:]
	*m = s.template
	m.Offset, m.Key, m.Body = offset, s.record.Key, s.record.Body
	if len(s.record.Headers) > 0 {
		m.Headers = slices.Clone(s.record.Headers)
	}
	return m
}

// advance moves on to the next batch, or delivery, waiting for one if need be.
func (s *Subscription) advance(ctx context.Context) error {
	if err := s.checkBatch(); err != nil {
		return s.broken(err)
	}
	if len(s.rest) > 0 {
		if err := s.nextBatch(); err != nil {
			return s.broken(err)
		}
		return nil
	}
	s.finishDelivery()
	if s.opts.StopAtEnd && s.unfinished == 0 {
		s.end(io.EOF)
		return s.reason()
	}
	return s.nextDelivery(ctx)
}

// checkBatch says whether the current batch held what it promised.
func (s *Subscription) checkBatch() error {
	if s.left == 0 {
		return nil
	}
	err := s.records.Err()
	if err == nil {
		err = fmt.Errorf("%d records are missing", s.left)
	}
	s.left = 0
	return err
}

// nextBatch begins the next batch of the current delivery, checking its CRC.
func (s *Subscription) nextBatch() error {
	rest, err := batch.Parse(s.rest, &s.batch)
	if err != nil {
		return err
	}
	s.rest = rest
	b, p := &s.batch, s.current.part
	s.records = batch.Records(b.Records)
	s.offset, s.left = int64(b.Base), int(b.Count)
	s.mortal = b.MinTTLMs > 0
	s.template = Message{
		Topic: p.topic, Partition: p.num, Incarnation: p.inc, Time: time.UnixMilli(b.TimeMs),
		Publisher: b.Publisher, PublisherSPKI: b.SPKI, PolicyVersion: b.PolicyVersion,
	}
	return nil
}

// broken ends the subscription: what came is not what was stored.
func (s *Subscription) broken(err error) error {
	p := s.current.part
	s.rest = nil
	s.end(fmt.Errorf("%s: partition %d of %q behind offset %d: %w: %w; read it from another node or report the incident",
		s.where(), p.num, p.topic, p.position, ErrCorrupt, err))
	return s.reason()
}

// finishDelivery moves the position behind the delivery, also over records that were
// cut out or have expired, and gives its credit back.
func (s *Subscription) finishDelivery() {
	d := s.current
	s.current = delivery{}
	if d.part != nil {
		d.part.position = max(d.part.position, d.next)
		if d.part.position >= d.part.stop {
			s.finish(d.part)
		}
	}
	if d.credit != (credit{}) {
		s.giveBack(d.credit)
	}
}

func (s *Subscription) finish(p *subPartition) {
	if !p.finished {
		p.finished = true
		s.unfinished--
	}
}

// giveBack grants consumed credit again, in steps of half a window.
func (s *Subscription) giveBack(c credit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.bytes -= c.bytes
	s.held.records -= c.records
	s.returned.bytes += c.bytes
	s.returned.records += c.records
	if 2*s.returned.bytes < s.opts.WindowBytes && 2*s.returned.records < s.opts.WindowRecords {
		return
	}
	s.sess.cast(&protocol.Credit{Sub: s.id, Bytes: uint64(s.returned.bytes), Records: uint64(s.returned.records)})
	s.returned = credit{}
}

// nextDelivery begins the next delivery, or waits for one.
func (s *Subscription) nextDelivery(ctx context.Context) error {
	for len(s.waiting) == 0 {
		if err := s.takeQueue(); err != nil {
			return err
		}
		if len(s.waiting) > 0 {
			break
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return fmt.Errorf("%s: next message: %w", s.where(), ended(ctx))
		}
		if s.aborted.Load() {
			return s.reason()
		}
	}
	s.current = s.waiting[0]
	s.waiting[0] = delivery{}
	s.waiting = s.waiting[1:]
	s.rest = s.current.batches
	return s.tell(s.current.event)
}

// takeQueue takes all deliveries at once; it returns the reason of the end when there
// are none and none will come.
func (s *Subscription) takeQueue() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.queue = s.queue, nil
	if len(s.waiting) == 0 {
		return s.err
	}
	return nil
}

// tell hands an event to the program: to OnEvent if there is one, else as an error
// if it means that records are missing.
func (s *Subscription) tell(e Event) error {
	if p := s.current.left; p != nil {
		s.finish(p)
	}
	if e == nil {
		return nil
	}
	if s.opts.OnEvent != nil {
		s.opts.OnEvent(e)
		return nil
	}
	if err, missing := e.(error); missing {
		return err
	}
	return nil
}

// reason is why the subscription ended.
func (s *Subscription) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
