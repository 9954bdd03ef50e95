package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/waxwing-mq/waxwing/bench/handshake"
)

// shaken is what workers counted in a phase.
type shaken struct {
	connections, resumed, resumedThere atomic.Uint64 // there: as the broker says in WELCOME
	messages                           atomic.Uint64
	sent, received                     atomic.Int64
	recorder                           *recorder
}

// shaker is one worker: a connection at a time.
type shaker struct {
	*reuse
	way      way
	dialer   *handshake.Dialer
	link     *handshake.Link // kept, with handshake.Conn
	producer handshake.Producer
	stream   uint32
	filler   *filler
	turn     int
}

// lap is one way under measurement, in one stretch or several.
type lap struct {
	*reuse
	way           way
	workers       []*shaker
	got           *shaken
	took          time.Duration
	cost          spent
	full, resumed uint64 // as the brokers count
}

// begin connects workers and warms them up.
func (r *reuse) begin(ctx context.Context, w way) (*lap, error) {
	l := &lap{reuse: r, way: w, got: &shaken{recorder: newRecorder()}}
	var err error
	if l.workers, err = r.workers(w); err != nil {
		return nil, err
	}
	r.o.say("%s: warm-up", w.name)
	warm := &shaken{recorder: newRecorder()}
	for _, s := range l.workers { // one each at least: it brings the ticket, or the connection that is kept
		if err := s.once(ctx, warm, time.Now()); err != nil {
			l.close()
			return nil, err
		}
	}
	if r.o.Warmup > 0 {
		if _, err := r.shake(ctx, l.workers, warm, &phase{duration: r.o.Warmup}); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func (l *lap) close() {
	for _, s := range l.workers {
		if s.link != nil {
			s.link.Close()
		}
	}
}

// run measures one of several stretches.
func (l *lap) run(ctx context.Context, of int) error {
	usage, err := l.meter(ctx, l.way)
	if err != nil {
		return err
	}
	full, resumed, err := l.counters(ctx, l.way)
	if err != nil {
		return err
	}
	ph := &phase{duration: l.o.Duration / time.Duration(of), messages: (l.o.Messages + uint64(of) - 1) / uint64(of)}
	done := l.o.every(func() {
		l.o.say("%s: %d connections, %d messages", l.way.name, l.got.connections.Load(), l.got.messages.Load())
	})
	took, err := l.shake(ctx, l.workers, l.got, ph)
	done()
	if err != nil {
		return err
	}
	cost, err := usage.stop(ctx)
	if err != nil {
		return err
	}
	fullAfter, resumedAfter, err := l.counters(ctx, l.way)
	if err != nil {
		return err
	}
	l.took += took
	l.cost.client, l.cost.server, l.cost.known = l.cost.client+cost.client, l.cost.server+cost.server, cost.known
	l.full, l.resumed = l.full+fullAfter-full, l.resumed+resumedAfter-resumed
	return nil
}

// meter measures brokers, or the floor.
func (r *reuse) meter(ctx context.Context, w way) (*meter, error) {
	if w.job == jobFloor {
		t := *r.target
		t.Nodes = []Node{{ID: "floor", Usage: r.floorUsage}}
		return startMeter(ctx, &t)
	}
	return startMeter(ctx, r.target)
}

// counters are what all brokers count; zeros for the floor, and if nobody can read them.
func (r *reuse) counters(ctx context.Context, w way) (full, resumed uint64, err error) {
	for _, n := range r.target.Nodes {
		if n.Handshakes == nil || w.job == jobFloor {
			continue
		}
		f, re, err := n.Handshakes(ctx)
		if err != nil {
			return 0, 0, err
		}
		full, resumed = full+f, resumed+re
	}
	return full, resumed, nil
}

// workers are as many as there shall be connections at once.
func (r *reuse) workers(w way) ([]*shaker, error) {
	first, err := handshake.NewDialer(r.target.Client, w.kex, w.reuse == handshake.Ticket)
	if err != nil {
		return nil, err
	}
	var list []*shaker
	for n := range r.o.Conns {
		s := &shaker{reuse: r, way: w, dialer: first.Another(), stream: uint32(r.streams), filler: newFiller(r.o.Seed, uint64(n), r.o), producer: handshake.Producer{Topic: r.topics[0]}}
		rand.Read(s.producer.ID[:]) // never fails
		r.streams, r.acked = r.streams+1, append(r.acked, 0)
		list = append(list, s)
	}
	return list, nil
}

// shake lets all workers work for a phase.
func (r *reuse) shake(ctx context.Context, workers []*shaker, got *shaken, ph *phase) (time.Duration, error) {
	ph.epoch, ph.begin, ph.stop = r.epoch, time.Now(), r.stop
	if r.o.Rate > 0 {
		ph.every = time.Duration(float64(time.Second) * float64(len(workers)) / r.o.Rate)
	}
	var all sync.WaitGroup
	errs := make([]error, len(workers))
	for i, s := range workers {
		all.Go(func() {
			t := ph.turn(i, len(workers))
			for due, ok := t.next(ctx); ok; due, ok = t.next(ctx) {
				if errs[i] = s.once(ctx, got, due); errs[i] != nil {
					ph.failed.Store(true)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(ph.begin), errors.Join(errs...)
}

// once connects, if it has to, and does the job.
func (s *shaker) once(ctx context.Context, got *shaken, due time.Time) error {
	l := s.link
	if l == nil {
		var err error
		if l, err = s.connect(ctx, got); err != nil {
			return err
		}
		if s.way.reuse == handshake.Conn {
			s.link = l
		} else {
			defer l.Close()
		}
	}
	if s.way.job == jobPublish {
		st := stamp{run: s.run, stream: s.stream, number: s.acked[s.stream], due: int64(due.Sub(s.epoch))}
		if err := l.Publish(&s.producer, s.filler.next(&st)); err != nil {
			return err
		}
		s.acked[s.stream]++
		got.messages.Add(1)
	}
	got.recorder.record(time.Since(due))
	return nil
}

// connect opens the next connection, and counts.
func (s *shaker) connect(ctx context.Context, got *shaken) (*handshake.Link, error) {
	dial, addr := s.dialer.Dial, s.way.servers[s.turn%len(s.way.servers)]
	s.turn++
	if s.way.job == jobFloor {
		dial = s.dialer.DialFloor
	}
	l, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	got.connections.Add(1)
	got.sent.Add(l.Sent)
	got.received.Add(l.Received)
	if l.Resumed {
		got.resumed.Add(1)
	}
	if l.Welcome.Resumed {
		got.resumedThere.Add(1)
	}
	return l, nil
}

// row makes the figures of a way. floor is what it is compared with; nil = nothing.
func (l *lap) row(floor *lap) Row {
	h := l.got.recorder.take()
	n, messages := l.got.connections.Load(), l.got.messages.Load()
	row := Row{Name: l.way.name, histograms: map[string]*hdrhistogram.Histogram{l.way.name: h}}
	add := func(name, unit string, value float64) { row.Figures = append(row.Figures, Figure{name, unit, value}) }
	if l.way.job == jobPublish {
		add("published", "messages", float64(messages))
		add("message rate", "messages/s", float64(messages)/l.took.Seconds())
	}
	add("handshakes", "connections", float64(n))
	add("handshake rate", "handshakes/s", l.rate())
	row.Figures = append(row.Figures, latencyFigures("latency", h)...)
	per, unit := n, "us/handshake"
	if l.way.reuse == handshake.Conn {
		per, unit = messages, "us/message"
	}
	switch {
	case per == 0:
	case l.target.OneProcess && l.way.job != jobFloor:
		add("CPU of client and server", unit, micros(l.cost.client, per))
	default:
		add("client CPU", unit, micros(l.cost.client, per))
		if l.cost.known {
			add("server CPU", unit, micros(l.cost.server, per))
		}
	}
	if n > 0 {
		add("bytes sent", "B/handshake", float64(l.got.sent.Load())/float64(n))
		add("bytes received", "B/handshake", float64(l.got.received.Load())/float64(n))
		row.Figures = append(row.Figures, l.shares(n)...)
	}
	if floor != nil && floor.got.connections.Load() > 0 && n > 0 {
		add(rateOfBare, "ratio", l.rate()/floor.rate())
		if l.cost.known && !l.target.OneProcess && floor.cost.server > 0 {
			add(cpuOfBare, "ratio", micros(l.cost.server, n)/micros(floor.cost.server, floor.got.connections.Load()))
		}
	}
	return row
}

// Names of the figures that compare with a server of crypto/tls alone.
const (
	rateOfBare = "rate of bare TLS"
	cpuOfBare  = "server CPU of bare TLS"
)

// shares tell how many sessions were resumed, as this side, WELCOME and the brokers' metrics have it.
func (l *lap) shares(n uint64) []Figure {
	figures := []Figure{{"share resumed, client", "of 1", share(l.got.resumed.Load(), n)}}
	if l.way.job == jobFloor {
		return figures
	}
	figures = append(figures, Figure{"share resumed, WELCOME", "of 1", share(l.got.resumedThere.Load(), n)})
	if l.full+l.resumed > 0 {
		figures = append(figures, Figure{"share resumed, metrics", "of 1", share(l.resumed, l.full+l.resumed)}, Figure{"full, metrics", "handshakes", float64(l.full)}, Figure{"resumed, metrics", "handshakes", float64(l.resumed)})
	}
	return figures
}

// rate is connections a second.
func (l *lap) rate() float64 { return float64(l.got.connections.Load()) / l.took.Seconds() }

// micros is time for one of so many.
func micros(d time.Duration, per uint64) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(per)
}

func share(part, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}
