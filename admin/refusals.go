package admin

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// refusals writes lines about refused callers into the log, so many a second. The rest is counted, and the next line
// says how many they were.
type refusals struct {
	pace    *rate.Limiter
	skipped atomic.Int64
}

// refusalsPerSecond is how many lines are written.
const refusalsPerSecond = 20

func newRefusals() *refusals {
	return &refusals{pace: rate.NewLimiter(refusalsPerSecond, refusalsPerSecond)}
}

func (r *refusals) warn(log *slog.Logger, message string, attributes ...any) {
	if !r.pace.Allow() {
		r.skipped.Add(1)
		return
	}
	log.Warn(message, append(attributes, "suppressed", r.skipped.Swap(0))...)
}
