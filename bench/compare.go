package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// resultBytesMax bounds a file of results.
const resultBytesMax = 256 << 20

// ReadResults reads what WriteJSON wrote, or the list that a report keeps.
func ReadResults(file string) ([]*Result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, resultBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", file, err)
	case len(text) > resultBytesMax:
		return nil, fmt.Errorf("read %s: it has more than %d bytes", file, resultBytesMax)
	}
	var list []*Result
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("[")) {
		err = json.Unmarshal(text, &list)
	} else {
		list = []*Result{new(Result)}
		err = json.Unmarshal(text, list[0])
	}
	if err != nil {
		return nil, fmt.Errorf("%s holds no results: %w; write them with waxwing bench ... -o json", file, err)
	}
	for _, r := range list {
		if r == nil || r.Version != resultVersion || len(r.Runs) == 0 {
			return nil, fmt.Errorf("%s holds no results of version %d; write them with waxwing bench ... -o json", file, resultVersion)
		}
	}
	return list, nil
}

// Comparison is one figure of two results.
type Comparison struct {
	Scenario Scenario `json:"scenario"`
	Payload  string   `json:"payload"`
	Row      string   `json:"row"`
	Figure   string   `json:"figure"`
	Unit     string   `json:"unit"`
	A        Spread   `json:"a"`
	B        Spread   `json:"b"`
	Ratio    float64  `json:"ratio"`      // of the medians, B to A
	Least    float64  `json:"ratio_from"` // B's least to A's most
	Most     float64  `json:"ratio_to"`   // B's most to A's least
}

// Spread is one figure over several runs.
type Spread struct {
	Runs   int     `json:"runs"`
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// Compare lists the figures that both have, in the order of a. Results belong together that have scenario and payload in common.
func Compare(a, b []*Result) (list []Comparison) {
	for _, ra := range a {
		i := slices.IndexFunc(b, func(r *Result) bool {
			return r.Scenario == ra.Scenario && r.Conditions.Payload == ra.Conditions.Payload
		})
		if i < 0 {
			continue
		}
		theirs := b[i].spreads()
		for _, row := range ra.spreads() {
			j := slices.IndexFunc(theirs, func(s *spreadRow) bool { return s.name == row.name })
			if j < 0 {
				continue
			}
			for _, s := range row.spreads {
				k := slices.IndexFunc(theirs[j].spreads, func(o *spread) bool { return o.Name == s.Name && o.Unit == s.Unit })
				if k < 0 {
					continue
				}
				list = append(list, compare(ra, row.name, s, theirs[j].spreads[k]))
			}
		}
	}
	return list
}

func compare(r *Result, row string, a, b *spread) Comparison {
	c := Comparison{Scenario: r.Scenario, Payload: r.Conditions.Payload, Row: row, Figure: a.Name, Unit: a.Unit, A: a.spread(), B: b.spread()}
	c.Ratio, c.Least, c.Most = ratio(b.median, a.median), ratio(b.low, a.high), ratio(b.high, a.low)
	return c
}

func (s *spread) spread() Spread { return Spread{len(s.values), s.median, s.low, s.high} }

// ratio is 0 where there is none.
func ratio(b, a float64) float64 {
	if a == 0 {
		return 0
	}
	return b / a
}

// WriteComparison prints ratios with their spread. Above it stand the conditions in which the two differ.
func WriteComparison(w io.Writer, a, b []*Result, list []Comparison) error {
	for _, line := range differences(a, b) {
		fmt.Fprintf(w, "%s\n", line)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tROW\tFIGURE\tUNIT\tA\tB\tB/A\tFROM\tTO")
	for _, c := range list {
		spread := [2]string{"-", "-"}
		if c.A.Runs > 1 || c.B.Runs > 1 {
			spread = [2]string{number(c.Least), number(c.Most)}
		}
		of := "-"
		if c.A.Median != 0 {
			of = number(c.Ratio)
		}
		fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Scenario, c.Payload, c.Row, c.Figure, c.Unit, number(c.A.Median), number(c.B.Median), of, spread[0], spread[1])
	}
	return t.Flush()
}

// differences are the conditions that are not the same, of the first results that belong together.
func differences(a, b []*Result) (lines []string) {
	for _, ra := range a {
		for _, rb := range b {
			if ra.Scenario != rb.Scenario || ra.Conditions.Payload != rb.Conditions.Payload {
				continue
			}
			la, lb := ra.Conditions.lines(), rb.Conditions.lines()
			for i := range min(len(la), len(lb)) {
				if la[i] != lb[i] {
					lines = append(lines, fmt.Sprintf("%s differs:\n  A: %s\n  B: %s", la[i][0], la[i][1], lb[i][1]))
				}
			}
			return lines
		}
	}
	return nil
}
