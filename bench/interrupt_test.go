package bench_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/bench"
)

// TestInterrupted ends runs that would take an hour: with what there is once they measure, without a result before.
func TestInterrupted(t *testing.T) {
	for _, s := range []bench.Scenario{bench.Pub, bench.E2E, bench.Latency} {
		for when, figures := range map[string]bool{"measuring": true, "warm-up": false} {
			t.Run(string(s)+"/"+when, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				o := bench.Defaults(s)
				o.Duration, o.Window, o.Runs = time.Hour, 1, 5
				if when == "warm-up" {
					o.Warmup = time.Hour
				} else {
					o.Warmup = time.Millisecond
				}
				o.Progress = func(text string) {
					if strings.Contains(text, when) && !strings.Contains(text, " 0 published") {
						cancel()
					}
				}
				r, err := bench.Run(ctx, newDouble(t, faults["nothing"]()).target(), o)
				if !figures {
					if !errors.Is(err, bench.ErrNothing) || r != nil {
						t.Fatalf("got %+v, %v", r, err)
					}
					return
				}
				if err != nil || !r.Interrupted || len(r.Runs) != 1 {
					t.Fatalf("got %+v, %v", r, err)
				}
				if n, _ := r.Runs[0].Rows[0].Get("published"); n.Value < 1 || r.Runs[0].Verified.Received < uint64(n.Value) {
					t.Errorf("%v published, verified %+v", n.Value, r.Runs[0].Verified)
				}
			})
		}
	}
}
