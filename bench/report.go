package bench

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

// Files of a report.
const (
	ReportPage = "report.html"
	ReportRaw  = "raw.json"
)

// reportSizes are the payloads of the plots of throughput.
var reportSizes = []int{64, 256, 1024, 4096, 16384}

// reportRecords is how many records of each size are there to read, unless they take too much room.
const reportRecords = 200_000

// Plan is what a report measures. base says how long and how often, and in its Messages how many records Sub finds (0 = 200,000, or 128 MiB
// if that is less), in Conns how many connections Connections opens, and in Kex the key exchanges of Handshake.
func Plan(base Options, nodes int) (list []Options) {
	add := func(s Scenario, change func(*Options)) {
		o := Defaults(s)
		o.Duration, o.Warmup, o.Runs, o.Seed, o.Progress, o.Ask, o.Patience = base.Duration, base.Warmup, base.Runs, base.Seed, base.Progress, base.Ask, base.Patience
		change(&o)
		list = append(list, o)
	}
	for _, size := range reportSizes {
		add(Pub, func(o *Options) { o.Size = size })
	}
	for _, size := range reportSizes {
		add(Sub, func(o *Options) {
			o.Size, o.Messages = size, min(cmp.Or(base.Messages, reportRecords), retainedBytes/uint64(size))
		})
	}
	for _, s := range []Scenario{E2E, Latency, Fanout} {
		add(s, func(*Options) {})
	}
	add(Handshake, func(o *Options) { o.Kex = base.Kex })
	add(Connections, func(o *Options) { o.Conns = base.Conns })
	if nodes > 1 {
		add(Failover, func(o *Options) { o.Duration = max(o.Duration, 2*killAfter) })
	}
	return list
}

// picture is one plot of a report.
type picture struct {
	Title string
	SVG   template.HTML
}

// WriteReport writes a page that needs nothing else, and the raw results beside it.
func WriteReport(dir string, results []*Result) error {
	if len(results) == 0 {
		return errors.New("report: there are no results")
	}
	raw, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	pictures, err := draw(results)
	if err != nil {
		return err
	}
	type section struct{ Title, Text string }
	page := struct {
		Conditions [][2]string
		Pictures   []picture
		Sections   []section
	}{Conditions: results[0].Conditions.lines(), Pictures: pictures}
	for _, r := range results {
		var b strings.Builder
		if err := r.WriteTable(&b); err != nil {
			return err
		}
		page.Sections = append(page.Sections, section{fmt.Sprintf("%s, %s", r.Scenario, r.Conditions.Payload), b.String()})
	}
	var b bytes.Buffer
	if err := reportPage.Execute(&b, page); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, ReportPage), b.Bytes(), 0o644), os.WriteFile(filepath.Join(dir, ReportRaw), append(raw, '\n'), 0o644))
}

// draw makes the plots for which there are results.
func draw(results []*Result) (list []picture, err error) {
	add := func(title string, p *plot.Plot, e error) {
		if e != nil || p == nil {
			err = errors.Join(err, e)
			return
		}
		svg, e := render(p, "svg")
		if i := bytes.Index(svg, []byte("<svg")); i >= 0 {
			svg = svg[i:] // what is before belongs to a file of its own
		}
		list, err = append(list, picture{title, template.HTML(svg)}), errors.Join(err, e)
	}
	p, e := plotSizes("throughput by payload", "MB/s", results, func(r *Result, size float64, row *spreadRow) (float64, bool) {
		for _, name := range []string{"publish rate", "read rate"} {
			if s := row.find(name); s != nil {
				return s.median * size / 1e6, true
			}
		}
		return 0, false
	})
	add("Throughput by payload", p, e)
	p, e = plotSizes("server CPU by payload", "CPU-seconds per million records", results, func(r *Result, _ float64, row *spreadRow) (float64, bool) {
		s := row.find("server CPU")
		return valueOf(s), s != nil && s.median > 0
	})
	add("Server CPU by payload", p, e)
	latencies := map[string]*hdrhistogram.Histogram{}
	for _, r := range results {
		if slices.Contains([]Scenario{Latency, E2E, Failover}, r.Scenario) {
			maps.Copy(latencies, r.histograms())
		}
	}
	if len(latencies) > 0 {
		p, e = plotLatency("latency by percentile", latencies)
		add("Latency by percentile", p, e)
	}
	for _, r := range results {
		if r.Scenario == Handshake {
			for _, f := range []string{"handshake rate", "server CPU", "bytes received"} {
				p, e = plotRows(r, f)
				add("Handshakes: "+f, p, e)
			}
		}
	}
	return list, err
}

func valueOf(s *spread) float64 {
	if s == nil {
		return 0
	}
	return s.median
}

func (r *spreadRow) find(name string) *spread {
	for _, s := range r.spreads {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// plotSizes draws a line for each of Pub and Sub over the size of the payload; nil = there is nothing to draw.
func plotSizes(title, unit string, results []*Result, value func(*Result, float64, *spreadRow) (float64, bool)) (*plot.Plot, error) {
	lines := map[Scenario]plotter.XYs{}
	for _, r := range results {
		var size float64
		if n, err := fmt.Sscanf(r.Conditions.Payload, "%g B", &size); n != 1 || err != nil || r.Scenario != Pub && r.Scenario != Sub {
			continue
		}
		for _, row := range r.spreads() {
			if v, ok := value(r, size, row); ok && v > 0 {
				lines[r.Scenario] = append(lines[r.Scenario], plotter.XY{X: size, Y: v})
			}
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	p := newPlot(title, "bytes of a payload", unit)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	for i, s := range []Scenario{Pub, Sub} {
		if len(lines[s]) == 0 {
			continue
		}
		if err := addLine(p, string(s), i, lines[s]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// plotRows draws a bar for each way that has a figure; nil = none has.
func plotRows(r *Result, figure string) (*plot.Plot, error) {
	var names []string
	var values []float64
	unit := ""
	for _, row := range r.spreads() {
		if s := row.find(figure); s != nil && s.median > 0 && !strings.HasSuffix(row.name, " conn") {
			names, values, unit = append(names, row.name), append(values, s.median), s.Unit
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return plotBars(figure, unit, names, values)
}

var reportPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>waxwing bench</title>
<style>body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}pre{overflow-x:auto;background:#f4f4f4;padding:1em;font-size:13px}
td{padding:0 1em 0 0;vertical-align:top}svg{max-width:100%;height:auto}</style></head><body>
<h1>waxwing bench</h1>
<p>Every record of every run was verified: figures of a run in which one was lost, doubled, out of order or changed are marked as no result. All of it is in raw.json.</p>
<h2>Conditions</h2>
<table>{{range .Conditions}}<tr><th scope="row" align="left">{{index . 0}}</th><td>{{index . 1}}</td></tr>{{end}}</table>
{{range .Pictures}}<h2>{{.Title}}</h2>
<figure>{{.SVG}}</figure>
{{end}}{{range .Sections}}<h2>{{.Title}}</h2>
<pre>{{.Text}}</pre>
{{end}}</body></html>
`))
