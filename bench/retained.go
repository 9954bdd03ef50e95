package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// How much is retained for readers when nothing is said: so many records, or so many bytes of payload if that is less.
const (
	retainedRecords = 500_000
	retainedBytes   = 128 << 20
)

// runRetained fills the topics, and then reads all that is there with every connection, again and again.
func runRetained(ctx context.Context, j *job, interrupted context.Context) (*RunOf, error) {
	amount := j.o.Messages
	if amount == 0 {
		amount = min(retainedRecords, max(1, retainedBytes/uint64(j.o.Size)))
	}
	if err := j.addPublishers(interrupted, 1); err != nil {
		return nil, err
	}
	j.o.say("publishing %d records to read", amount)
	if _, err := j.publish(ctx, &phase{messages: amount}); err != nil {
		return nil, err
	}
	if interrupted.Err() != nil {
		return nil, context.Cause(interrupted)
	}
	r := &retained{job: j}
	for range j.o.Conns {
		c, err := j.dial(interrupted)
		if err != nil {
			return nil, err
		}
		r.conns = append(r.conns, c)
	}
	return r.measure(ctx, interrupted)
}

// retained is readers of what was published before.
type retained struct {
	*job
	conns    []*client.Client
	verified Verification
}

// measure reads for the warm-up and for the measured phase. A pass through everything is never cut short, so that each can be verified.
func (r *retained) measure(ctx, interrupted context.Context) (*RunOf, error) {
	if r.o.Warmup > 0 {
		r.o.say("warm-up, %v", r.o.Warmup)
		if _, _, err := r.passes(ctx, interrupted, r.o.Warmup); err != nil {
			return nil, err
		}
	}
	if interrupted.Err() != nil {
		return nil, context.Cause(interrupted)
	}
	used, err := startMeter(ctx, r.target)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	records, bytes, err := r.passes(ctx, interrupted, r.o.Duration)
	took := time.Since(began).Seconds()
	if err != nil {
		return nil, err
	}
	cost, err := used.stop(ctx)
	if err != nil {
		return nil, err
	}
	row := Row{Name: string(Sub), Figures: []Figure{{"read", "messages", float64(records)}, {"read rate", "messages/s", float64(records) / took}, {"read throughput", "MB/s", float64(bytes) / 1e6 / took}}}
	row.Figures = append(row.Figures, cost.figures(r.target, records)...)
	return &RunOf{Rows: []Row{row}, Verified: r.verified}, nil
}

// passes has every connection read everything until the time is over, once at least.
func (r *retained) passes(ctx, interrupted context.Context, d time.Duration) (records, bytes uint64, err error) {
	end := time.Now().Add(d)
	acknowledged := r.acknowledged()
	var (
		reading sync.WaitGroup
		mu      sync.Mutex // guards the results, errs and r.verified
		errs    []error
	)
	for _, c := range r.conns {
		reading.Go(func() {
			for {
				n, size, v, err := r.pass(ctx, c, acknowledged)
				mu.Lock()
				records, bytes = records+n, bytes+size
				r.verified.add(v)
				errs = append(errs, err)
				r.o.say("reading, %d records", records)
				mu.Unlock()
				if err != nil || interrupted.Err() != nil || !time.Now().Before(end) {
					return
				}
			}
		})
	}
	reading.Wait()
	return records, bytes, errors.Join(errs...)
}

// pass reads everything once.
func (r *retained) pass(ctx context.Context, c *client.Client, acknowledged []uint64) (records, bytes uint64, v Verification, err error) {
	reader, err := openReader(ctx, c, r.pattern, true, newVerifier(r.run, r.streams), r.epoch)
	if err != nil {
		return 0, 0, v, err
	}
	reader.readLoop(ctx)
	if err := reader.close(); err != nil {
		return 0, 0, v, err
	}
	return reader.got.Load(), reader.bytes.Load(), reader.verifier.finish(acknowledged), nil
}
