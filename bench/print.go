package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteJSON writes a result with everything it has.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteTable writes a result for people: the conditions, and the figures of each way. Of several runs it shows the median, and the
// least and the most.
func (r *Result) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "bench\t%s\n", r.Scenario)
	for _, line := range r.Conditions.lines() {
		fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
	}
	fmt.Fprintf(t, "verified\t%s\n", r.verdict())
	if err := t.Flush(); err != nil {
		return err
	}
	rows := r.spreads()
	if r.Scenario == Handshake {
		return writeMatrix(w, rows, handshakeColumns)
	}
	width := 0
	for _, row := range rows {
		for _, s := range row.spreads {
			width = max(width, len(s.Name))
		}
	}
	for _, row := range rows {
		fmt.Fprintf(w, "\n%s\n", row.name)
		for _, s := range row.spreads {
			if _, err := fmt.Fprintf(w, "  %-*s  %12s %s%s\n", width, s.Name, number(s.median), s.Unit, s.bounds()); err != nil {
				return err
			}
		}
	}
	return nil
}

// handshakeColumns are the figures that ways of shaking hands are compared by, and their heads.
var handshakeColumns = [][2]string{
	{"message rate", "msgs/s"}, {"handshake rate", "shakes/s"}, {"latency p50", "p50 ms"}, {"latency p99", "p99 ms"}, {"latency p99.9", "p99.9 ms"},
	{"client CPU", "client us"}, {"server CPU", "server us"}, {"CPU of client and server", "both us"}, {"bytes sent", "B up"}, {"bytes received", "B down"},
	{"share resumed, client", "resumed"}, {"share resumed, metrics", "by broker"}, {rateOfBare, "rate/bare"}, {cpuOfBare, "CPU/bare"},
}

// writeMatrix has a line for each way. Of several runs it shows medians.
func writeMatrix(w io.Writer, rows []*spreadRow, columns [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\n\t")
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t", c[1])
	}
	for _, row := range rows {
		fmt.Fprintf(t, "\n%s\t", row.name)
		for _, c := range columns {
			i := slices.IndexFunc(row.spreads, func(s *spread) bool { return s.Name == c[0] })
			if i < 0 {
				fmt.Fprint(t, "-\t")
				continue
			}
			fmt.Fprintf(t, "%s\t", number(row.spreads[i].median))
		}
	}
	fmt.Fprintln(t)
	return t.Flush()
}

// verdict says what the verification found.
func (r *Result) verdict() string {
	var v Verification
	for _, run := range r.Runs {
		v.add(run.Verified)
	}
	text := fmt.Sprintf("all of %d records came once, in order, unchanged", v.Expected)
	if v.Expected == 0 {
		text = "nothing was published"
	}
	if err := v.Err(); err != nil {
		text = "NO RESULT: " + err.Error()
	}
	if len(r.Runs) > 1 {
		text += fmt.Sprintf("; figures are medians of %d runs [least to most]", len(r.Runs))
	}
	if r.Interrupted {
		text += "; interrupted: this is what there was until then"
	}
	return text
}

// spread is one figure over several runs.
type spread struct {
	Figure
	values            []float64
	median, low, high float64
}

func (s *spread) bounds() string {
	if len(s.values) < 2 {
		return ""
	}
	return fmt.Sprintf(" [%s to %s]", number(s.low), number(s.high))
}

// spreadRow is the spreads of one way.
type spreadRow struct {
	name    string
	spreads []*spread
}

// spreads gathers the figures of all runs by row and name, in the order in which they came.
func (r *Result) spreads() []*spreadRow {
	var rows []*spreadRow
	for _, run := range r.Runs {
		for _, row := range run.Rows {
			i := slices.IndexFunc(rows, func(s *spreadRow) bool { return s.name == row.Name })
			if i < 0 {
				i, rows = len(rows), append(rows, &spreadRow{name: row.Name})
			}
			for _, f := range row.Figures {
				rows[i].add(f)
			}
		}
	}
	for _, row := range rows {
		for _, s := range row.spreads {
			sorted := slices.Sorted(slices.Values(s.values))
			s.median, s.low, s.high = median(sorted), sorted[0], sorted[len(sorted)-1]
		}
	}
	return rows
}

func (r *spreadRow) add(f Figure) {
	i := slices.IndexFunc(r.spreads, func(s *spread) bool { return s.Name == f.Name })
	if i < 0 {
		i, r.spreads = len(r.spreads), append(r.spreads, &spread{Figure: f})
	}
	r.spreads[i].values = append(r.spreads[i].values, f.Value)
}

// median of a sorted list.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// number shows three to four digits that mean something, and thousands apart.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return thousands(fmt.Sprintf("%.0f", v))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a == 0:
		return "0"
	}
	return fmt.Sprintf("%.3f", v)
}

func thousands(digits string) string {
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
