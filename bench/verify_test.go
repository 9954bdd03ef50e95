package bench_test

import (
	"errors"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/bench/handshake"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// TestVerification gives every scenario a broker that is right or does one wrong to one record. Every wrong is found, counted as what it
// is, and no result.
func TestVerification(t *testing.T) {
	want := map[string]bench.Verification{ // for each reader, besides Expected and Received
		"nothing":             {},
		"lost":                {Lost: 1},
		"doubled":             {Duplicated: 1},
		"out of order":        {Reordered: 1},
		"changed":             {Lost: 1, Damaged: 1},
		"changed in its head": {Lost: 1, Damaged: 1},
		"cut":                 {Lost: 1, Damaged: 1},
		"of somebody else":    {Damaged: 1},
	}
	if len(want) != len(faults) {
		t.Fatal("not every fault has its row")
	}
	for _, s := range []bench.Scenario{bench.Pub, bench.Sub, bench.E2E, bench.Latency, bench.Handshake} {
		for name, verdict := range want {
			if name != "nothing" && name != "out of order" && (s == bench.Sub || s == bench.Latency || s == bench.Handshake) && lane.Current() < 2 {
				continue // the same verifier looks at all of them
			}
			t.Run(string(s)+"/"+name, func(t *testing.T) {
				o := bench.Defaults(s)
				o.Messages, o.Duration, o.Warmup, o.Window, o.Members = 300, time.Nanosecond, 0, 16, 2
				if s == bench.Latency {
					o.Rate = 10_000
				}
				if s == bench.Handshake {
					o.Messages, o.Conns, o.Kex = 60, 1, []handshake.Kex{handshake.X25519}
				}
				r, err := bench.Run(t.Context(), newDouble(t, faults[name]()).target(), o)
				if fault, ok := errors.AsType[*bench.FaultError](err); ok != (name != "nothing") {
					t.Fatalf("ended with %v", err)
				} else if ok && fault.Verification != r.Runs[0].Verified {
					t.Errorf("the error says %+v, the result %+v", fault.Verification, r.Runs[0].Verified)
				}
				got := r.Runs[0].Verified
				readers := uint64(1)
				if s == bench.E2E || s == bench.Latency {
					readers = 2
				}
				verdict.Lost, verdict.Duplicated, verdict.Reordered, verdict.Damaged = readers*verdict.Lost, readers*verdict.Duplicated, readers*verdict.Reordered, readers*verdict.Damaged
				verdict.Expected = readers * 301 // a marker ends the phase
				if s == bench.Handshake {
					verdict.Expected = 3 * 61 // each way begins with one
				}
				verdict.Received = verdict.Expected - verdict.Lost
				if got != verdict {
					t.Errorf("got %+v, want %+v", got, verdict)
				}
			})
		}
	}
}
