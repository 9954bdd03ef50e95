package bench

import (
	"context"
	"errors"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// flow is a job in which records flow: from publishers to the log, and, but for Pub, on to subscribers.
type flow struct {
	*job
	readers   []*reader
	published []*recorder
	received  []*recorder
}

// runFlow publishes in two phases, with whoever subscribes, and verifies.
func runFlow(ctx context.Context, j *job, interrupted context.Context) (*RunOf, error) {
	f := &flow{job: j}
	if err := f.assemble(ctx, interrupted); err != nil {
		return nil, errors.Join(err, f.closeReaders())
	}
	row, err := f.measure(ctx, interrupted)
	if err = errors.Join(err, f.closeReaders()); err != nil {
		return nil, err
	}
	v, err := f.verify(ctx)
	return &RunOf{Rows: []Row{row}, Verified: v}, err
}

// assemble connects everybody. Subscribers come first: they must not miss anything.
func (f *flow) assemble(ctx, interrupted context.Context) error {
	if err := f.addPublishers(interrupted, f.o.Conns); err != nil {
		return err
	}
	for _, p := range f.publishers {
		f.published = append(f.published, p.recorder)
	}
	if f.o.Scenario == Pub {
		return nil
	}
	for range f.o.Members {
		c, err := f.dial(interrupted)
		if err != nil {
			return err
		}
		r, err := openReader(ctx, c, f.pattern, false, newVerifier(f.run, f.streams), f.epoch)
		if err != nil {
			return err
		}
		r.recorder = newRecorder()
		f.readers, f.received = append(f.readers, r), append(f.received, r.recorder)
		go r.readLoop(ctx)
	}
	return nil
}

// measure runs warm-up and the measured phase.
func (f *flow) measure(ctx, interrupted context.Context) (Row, error) {
	if f.o.Warmup > 0 {
		f.o.say("warm-up, %v", f.o.Warmup)
		if _, err := f.phase(ctx, &phase{duration: f.o.Warmup}); err != nil {
			return Row{}, err
		}
		if interrupted.Err() != nil {
			return Row{}, context.Cause(interrupted)
		}
	}
	for _, list := range [][]*recorder{f.published, f.received} {
		histogramsOf(list) // of the warm-up
	}
	before, beforeBytes := f.delivered()
	used, err := startMeter(ctx, f.target)
	if err != nil {
		return Row{}, err
	}
	began := time.Since(f.epoch)
	done := f.watch()
	took, err := f.phase(ctx, &phase{duration: f.o.Duration, messages: f.o.Messages})
	done()
	if err != nil {
		return Row{}, err
	}
	cost, err := used.stop(ctx)
	if err != nil {
		return Row{}, err
	}
	acks, arrivals := histogramsOf(f.published), histogramsOf(f.received)
	after, afterBytes := f.delivered()
	row := Row{Name: string(f.o.Scenario), histograms: map[string]*hdrhistogram.Histogram{"publish": acks}}
	n := uint64(acks.TotalCount())
	row.Figures = append(row.Figures, Figure{"published", "messages", float64(n)}, Figure{"publish rate", "messages/s", float64(n) / took.Seconds()})
	if len(f.readers) > 0 {
		row.histograms["deliver"] = arrivals
		whole := (f.lastDelivery() - began).Seconds()
		row.Figures = append(row.Figures, Figure{"delivered", "messages", float64(after - before)}, Figure{"delivery rate", "messages/s", float64(after-before) / whole},
			Figure{"delivery throughput", "MB/s", float64(afterBytes-beforeBytes) / 1e6 / whole})
	}
	row.Figures = append(row.Figures, latencyFigures("publish", acks)...)
	row.Figures = append(row.Figures, latencyFigures("deliver", arrivals)...)
	row.Figures = append(row.Figures, cost.figures(f.target, n)...)
	return row, nil
}

// phase publishes and waits until everything is delivered.
func (f *flow) phase(ctx context.Context, ph *phase) (took time.Duration, err error) {
	if took, err = f.publish(ctx, ph); err != nil {
		return 0, err
	}
	for _, r := range f.readers {
		if err := r.awaitMarkers(ctx, f.phases*uint64(f.streams), f.o.Patience); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// delivered is what all readers have got.
func (f *flow) delivered() (records, bytes uint64) {
	for _, r := range f.readers {
		records, bytes = records+r.got.Load(), bytes+r.bytes.Load()
	}
	return records, bytes
}

// lastDelivery is when the latest record came, since the epoch.
func (f *flow) lastDelivery() (last time.Duration) {
	for _, r := range f.readers {
		last = max(last, time.Duration(r.last.Load()))
	}
	return last
}

// verify compares what came with what was acknowledged.
func (f *flow) verify(ctx context.Context) (v Verification, err error) {
	if len(f.readers) == 0 {
		f.o.say("reading back, to verify")
		return f.readBack(ctx, f.acknowledged())
	}
	acknowledged := f.acknowledged()
	for _, r := range f.readers {
		v.add(r.verifier.finish(acknowledged))
	}
	return v, nil
}

func (f *flow) closeReaders() error {
	var errs []error
	for _, r := range f.readers {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}
