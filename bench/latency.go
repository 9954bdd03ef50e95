package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Range of histograms: three digits, from a microsecond.
const (
	latencyMin    = int64(time.Microsecond)
	latencyMax    = int64(10 * time.Minute)
	latencyDigits = 3
)

// recorder collects latencies. Its methods may be used by many goroutines.
type recorder struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // Guarded by mu.
}

func newRecorder() *recorder {
	return &recorder{h: hdrhistogram.New(latencyMin, latencyMax, latencyDigits)}
}

// record adds one; what is beyond the range counts as its end.
func (r *recorder) record(d time.Duration) {
	n := min(max(int64(d), latencyMin), latencyMax)
	r.mu.Lock()
	_ = r.h.RecordValue(n) // in range
	r.mu.Unlock()
}

// take returns what was recorded, and begins anew.
func (r *recorder) take() *hdrhistogram.Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.h
	r.h = hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
	return h
}

// merged adds up histograms.
func merged(parts []*hdrhistogram.Histogram) *hdrhistogram.Histogram {
	all := hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
	for _, p := range parts {
		all.Merge(p)
	}
	return all
}

// millis is a duration in milliseconds.
func millis(ns int64) float64 { return float64(ns) / 1e6 }

// latencyFigures are the percentiles that every result shows.
func latencyFigures(what string, h *hdrhistogram.Histogram) []Figure {
	if h.TotalCount() == 0 {
		return nil
	}
	figures := []Figure{}
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}} {
		figures = append(figures, Figure{what + " " + p.name, "ms", millis(h.ValueAtQuantile(p.at))})
	}
	return append(figures, Figure{what + " max", "ms", millis(h.Max())})
}
