package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// resultVersion is the version of the JSON form.
const resultVersion = 1

// Result is what came out, with the conditions it came out under.
type Result struct {
	Version     int        `json:"version"`
	Scenario    Scenario   `json:"scenario"`
	Conditions  Conditions `json:"conditions"`
	Began       time.Time  `json:"began"`
	Runs        []RunOf    `json:"runs"`
	Interrupted bool       `json:"interrupted,omitempty"` // it is what there was until then
}

// RunOf is one run. A run has a row for each way in which its scenario does its job.
type RunOf struct {
	Rows     []Row        `json:"rows"`
	Verified Verification `json:"verified"`
}

// Row is the figures of one way.
type Row struct {
	Name    string   `json:"name"`
	Figures []Figure `json:"figures"`

	histograms map[string]*hdrhistogram.Histogram // by what they are of
}

// Figure is one number.
type Figure struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

// Get finds a figure of a row.
func (r *Row) Get(name string) (Figure, bool) {
	for _, f := range r.Figures {
		if f.Name == name {
			return f, true
		}
	}
	return Figure{}, false
}
