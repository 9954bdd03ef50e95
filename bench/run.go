package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ErrNothing says that a bench was interrupted before there was anything to show.
var ErrNothing = errors.New("interrupted before anything was measured")

// Run measures. When ctx ends, what is under way is finished and the result is what there is by then, marked as interrupted; if
// there is nothing, the error matches ErrNothing. A result may come together with an error: with a *FaultError it shows how
// many records were wrong, and its figures are none.
func Run(ctx context.Context, t *Target, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	do, ok := scenarios[o.Scenario]
	if !ok {
		return nil, fmt.Errorf("there is no scenario %q", o.Scenario)
	}
	r := &Result{Version: resultVersion, Scenario: o.Scenario, Began: time.Now()}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for n := range o.Runs {
		if ctx.Err() != nil {
			break
		}
		if o.Runs > 1 {
			o.say("run %d of %d", n+1, o.Runs)
		}
		run, err := runOnce(work, ctx, t, &o, r, do)
		if run != nil {
			r.Runs = append(r.Runs, *run)
		}
		if err != nil {
			if ctx.Err() != nil && !errors.As(err, new(*FaultError)) {
				break
			}
			return r, err
		}
	}
	r.Interrupted = ctx.Err() != nil
	if len(r.Runs) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrNothing, context.Cause(ctx))
	}
	return r, nil
}

// scenarios does each job once.
var scenarios = map[Scenario]func(ctx context.Context, j *job, interrupted context.Context) (*RunOf, error){
	Pub: runFlow, E2E: runFlow, Latency: runFlow, Fanout: runFlow, Sub: runRetained, Handshake: runReuse, Connections: runIdle, Failover: runFailover,
}

// runOnce does the job once, on topics of its own.
func runOnce(ctx, interrupted context.Context, t *Target, o *Options, r *Result, do func(context.Context, *job, context.Context) (*RunOf, error)) (_ *RunOf, err error) {
	j, err := newJob(ctx, interrupted, t, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close(ctx)) }()
	if len(r.Runs) == 0 {
		if r.Conditions, err = conditions(ctx, j.admin, t, o); err != nil {
			return nil, err
		}
	}
	run, err := do(ctx, j, interrupted)
	if err != nil {
		return run, err
	}
	return run, run.Verified.Err()
}

// histogramsOf takes what recorders have, together.
func histogramsOf(recorders []*recorder) *hdrhistogram.Histogram {
	var parts []*hdrhistogram.Histogram
	for _, r := range recorders {
		parts = append(parts, r.take())
	}
	return merged(parts)
}
