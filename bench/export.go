package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// WriteGobench writes a line for each way and run in the form of Go's benchmarks, for benchstat.
func (r *Result) WriteGobench(w io.Writer) error {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: waxwing/bench\n", runtime.GOOS, runtime.GOARCH)
	for _, line := range r.Conditions.lines() {
		if line[0] != "note" {
			fmt.Fprintf(w, "%s: %s\n", strings.ToLower(line[0]), line[1])
		}
	}
	for _, run := range r.Runs {
		for _, row := range run.Rows {
			fmt.Fprintf(w, "BenchmarkWaxwing/%s/%s-%d\t1", r.Scenario, dashed(row.Name), r.Conditions.Cores)
			for _, f := range row.Figures {
				fmt.Fprintf(w, "\t%s %s-%s", strconv.FormatFloat(f.Value, 'g', -1, 64), dashed(f.Name), dashed(f.Unit))
			}
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// dashed is a text as one word.
func dashed(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, ",", ""), " ", "-")
}

// WriteCSV writes a line for each figure, below the conditions as comments.
func (r *Result) WriteCSV(w io.Writer) error {
	for _, line := range append([][2]string{{"bench", string(r.Scenario)}}, append(r.Conditions.lines(), [2]string{"verified", r.verdict()})...) {
		if _, err := fmt.Fprintf(w, "# %s: %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	c := csv.NewWriter(w)
	rows := [][]string{{"scenario", "run", "row", "figure", "unit", "value"}}
	for n, run := range r.Runs {
		for _, row := range run.Rows {
			for _, f := range row.Figures {
				rows = append(rows, []string{string(r.Scenario), strconv.Itoa(n + 1), row.Name, f.Name, f.Unit, strconv.FormatFloat(f.Value, 'g', -1, 64)})
			}
		}
	}
	return c.WriteAll(rows)
}

// histograms are the latencies of all runs, by way and what they are of.
func (r *Result) histograms() map[string]*hdrhistogram.Histogram {
	all := map[string]*hdrhistogram.Histogram{}
	for _, run := range r.Runs {
		for _, row := range run.Rows {
			for what, h := range row.histograms {
				name := row.Name
				if len(row.histograms) > 1 || what != row.Name {
					name += " " + what
				}
				if h.TotalCount() == 0 {
					continue
				}
				if all[name] == nil {
					all[name] = merged(nil)
				}
				all[name].Merge(h)
			}
		}
	}
	return all
}

// hgrmTicks is how many lines a .hgrm file has for each halving of the distance to 100 %.
const hgrmTicks = 5

// WriteHistograms writes the latencies as .hgrm files, which HdrHistogram's plotters read, in milliseconds. Of several each has its own file, with
// what it is of before the extension. It returns their names.
func (r *Result) WriteHistograms(file string) (files []string, err error) {
	all := r.histograms()
	for _, what := range slices.Sorted(maps.Keys(all)) {
		name := file
		if len(all) > 1 {
			ext := filepath.Ext(file)
			name = strings.TrimSuffix(file, ext) + "-" + dashed(what) + ext
		}
		f, err := os.Create(name)
		if err != nil {
			return files, err
		}
		_, err = all[what].PercentilesPrint(f, hgrmTicks, 1e6)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return files, fmt.Errorf("write %s: %w", name, err)
		}
		files = append(files, name)
	}
	return files, nil
}
