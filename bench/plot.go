package bench

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Size of plots.
const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 4.5 * vg.Inch
)

// WritePlot draws the latencies by percentile into a .svg or .png file.
func (r *Result) WritePlot(file string) error {
	format := strings.TrimPrefix(filepath.Ext(file), ".")
	if format != "svg" && format != "png" {
		return fmt.Errorf("plot %s: the name must end in .svg or .png", file)
	}
	p, err := plotLatency(fmt.Sprintf("waxwing bench %s: latency", r.Scenario), r.histograms())
	if err != nil {
		return err
	}
	picture, err := render(p, format)
	if err != nil {
		return err
	}
	return os.WriteFile(file, picture, 0o644)
}

func render(p *plot.Plot, format string) ([]byte, error) {
	w, err := p.WriterTo(plotWidth, plotHeight, format)
	if err != nil {
		return nil, fmt.Errorf("plot: %w", err)
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("plot: %w", err)
	}
	return b.Bytes(), nil
}

// newPlot has both axes named and a grid.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	return p
}

// percentiles are the ticks of latency plots: the axis is the logarithm of how rare something is.
var percentiles = []struct {
	at   float64
	name string
}{{0, "0"}, {50, "p50"}, {90, "p90"}, {99, "p99"}, {99.9, "p99.9"}, {99.99, "p99.99"}, {99.999, "p99.999"}}

// rarity is where a percentile stands on that axis.
func rarity(percentile float64) float64 { return 1 / (1 - percentile/100) }

// plotLatency draws one line for each histogram.
func plotLatency(title string, all map[string]*hdrhistogram.Histogram) (*plot.Plot, error) {
	p := newPlot(title, "percentile", "ms")
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	var ticks []plot.Tick
	for _, t := range percentiles {
		ticks = append(ticks, plot.Tick{Value: rarity(t.at), Label: t.name})
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	for i, name := range slices.Sorted(maps.Keys(all)) {
		h := all[name]
		var line plotter.XYs
		for x := 0.0; ; x += 0.05 { // in powers of ten
			at := 100 * (1 - math.Pow(10, -x))
			if rarity(at) > float64(h.TotalCount()) && x > 0 {
				break
			}
			line = append(line, plotter.XY{X: rarity(at), Y: millis(max(h.ValueAtQuantile(at), latencyMin))})
		}
		if err := addLine(p, name, i, line); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("plot: there are no latencies")
	}
	return p, nil
}

func addLine(p *plot.Plot, name string, i int, points plotter.XYs) error {
	l, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return fmt.Errorf("plot %s: %w", name, err)
	}
	l.Color, l.Width = plotutil.Color(i), vg.Points(1.5)
	dots.Color, dots.Radius = plotutil.Color(i), vg.Points(1)
	p.Add(l, dots)
	p.Legend.Add(name, l)
	return nil
}

// plotBars draws one bar for each name.
func plotBars(title, unit string, names []string, values []float64) (*plot.Plot, error) {
	p := newPlot(title, "", unit)
	bars, err := plotter.NewBarChart(plotter.Values(values), vg.Points(18))
	if err != nil {
		return nil, fmt.Errorf("plot %s: %w", title, err)
	}
	bars.Color, bars.LineStyle.Width = plotutil.Color(2), 0
	p.Add(bars)
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	p.X.Tick.Label.Rotation = math.Pi / 7
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = -1, -0.5
	p.Y.Min = 0
	return p, nil
}
