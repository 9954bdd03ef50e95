package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// publisher is one publishing connection. In a phase publishLoop is the only one that publishes, and each stream has a
// collectLoop that waits for the acknowledgements in order.
type publisher struct {
	number   int
	conn     *client.Client
	run      uint64
	streams  []*stream
	filler   *filler
	slots    chan struct{} // one for each record that may be in flight
	recorder *recorder     // from due, or from the call, to acknowledged
	gap      *gap          // nil = nobody asks
}

// stream is one publisher's records to one partition: they keep their order.
type stream struct {
	id        uint32
	topic     string
	partition uint32
	flying    chan flight

	next uint64 // Owned by publishLoop.

	acked uint64 // Owned by collectLoop, while there is one.
	err   error  // Owned by collectLoop, while there is one.
}

// flight is a record on its way.
type flight struct {
	future *client.Future
	due    time.Time
	marker bool
}

// publish publishes what the phase asks for, and returns once everything is acknowledged. ctx ends it at once.
func (p *publisher) publish(ctx context.Context, t *turn) error {
	var collecting sync.WaitGroup
	room := max(1, cap(p.slots)/len(p.streams))
	for _, s := range p.streams {
		s.flying = make(chan flight, room)
		collecting.Go(func() { p.collectLoop(ctx, t, s) })
	}
	p.publishLoop(ctx, t)
	for _, s := range p.streams {
		close(s.flying)
	}
	collecting.Wait()
	var errs []error
	for _, s := range p.streams {
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}

func (p *publisher) publishLoop(ctx context.Context, t *turn) {
	for i := 0; ; i++ {
		if !t.open() && !p.slot(ctx, t) {
			break
		}
		due, ok := t.next(ctx)
		if !ok {
			if !t.open() {
				<-p.slots // the one just taken
			}
			break
		}
		if t.open() && !p.slot(ctx, t) { // after the due time is known: what waits here is late, and counts as late
			break
		}
		p.send(ctx, t, p.streams[i%len(p.streams)], due, kindData)
	}
}

// open says whether the phase has an open loop.
func (p *phase) open() bool { return p.every > 0 }

// slot waits until one more record may be in flight.
func (p *publisher) slot(ctx context.Context, t *turn) bool {
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	case <-t.stop:
		return false
	}
}

func (p *publisher) send(ctx context.Context, t *turn, s *stream, due time.Time, kind uint8) {
	st := stamp{run: p.run, stream: s.id, kind: kind, number: s.next, due: int64(due.Sub(t.epoch))}
	s.next++
	f := p.conn.PublishAsync(ctx, s.topic, client.Record{Body: p.filler.next(&st)}, client.ToPartition(s.partition))
	s.flying <- flight{f, due, kind == kindMarker} // its collectLoop takes until it is closed
}

// collectLoop waits for a stream's acknowledgements.
func (p *publisher) collectLoop(ctx context.Context, t *turn, s *stream) {
	for f := range s.flying {
		_, err := f.future.Wait(ctx)
		if err == nil {
			s.acked++
			if p.gap != nil {
				p.gap.acknowledged(time.Now())
			}
			if !f.marker {
				p.recorder.record(time.Since(f.due))
			}
		} else if s.err == nil {
			s.err = fmt.Errorf("publish: %w", err)
			t.failed.Store(true)
		}
		if !f.marker {
			<-p.slots
		}
	}
}

// mark ends a phase in every stream.
func (p *publisher) mark(ctx context.Context, epoch time.Time) error {
	t := (&phase{epoch: epoch, begin: time.Now()}).turn(0, 1)
	var collecting sync.WaitGroup
	for _, s := range p.streams {
		s.flying = make(chan flight, 1)
		collecting.Go(func() { p.collectLoop(ctx, t, s) })
		p.send(ctx, t, s, time.Now(), kindMarker)
		close(s.flying)
	}
	collecting.Wait()
	var errs []error
	for _, s := range p.streams {
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}
