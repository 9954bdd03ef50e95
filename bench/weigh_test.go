package bench_test

import (
	"math"
	"testing"

	"github.com/waxwing-mq/waxwing/bench"
)

// TestSlope fits a line to what connections weigh: what is there before does not count, and what is off at one step counts little.
func TestSlope(t *testing.T) {
	for _, c := range []struct {
		name string
		x, y []float64
		want float64
	}{
		{"a line", []float64{0, 400, 800, 1200, 1600, 2000}, []float64{100, 900, 1700, 2500, 3300, 4100}, 2},
		{"off at both sides alike", []float64{0, 1, 2, 3}, []float64{1, -1, -1, 1}, 0},
		{"too few connections for steps", []float64{1, 1, 1}, []float64{5, 6, 7}, 0},
	} {
		if got := bench.Slope(c.x, c.y); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
