package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parseAge reads a duration like 90m, 168h, or a number of days like 7d.
func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > 36_500 {
			return 0, fmt.Errorf("%q is no number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration; write 90m, 168h or 7d", s)
	}
	return d, nil
}

// sizeUnits are what may stand behind a number of bytes.
var sizeUnits = []struct {
	suffix string
	factor uint64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// parseSize reads a number of bytes like 1048576, 512MiB or 10GB.
func parseSize(s string) (uint64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err != nil || n > math.MaxInt64/u.factor {
			break
		}
		return n * u.factor, nil
	}
	return 0, fmt.Errorf("%q is no number of bytes; write 1048576, 512MiB or 10GB", s)
}

// count is a number with its noun: 1 fault, 2 faults.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// ranges is a set of numbers that come in rising order, as the stretches that a person reads.
type ranges struct {
	count     int
	stretches [][2]int // first and last
}

// stretchesShown bounds what is printed.
const stretchesShown = 50

func (r *ranges) add(n int) {
	r.count++
	if last := len(r.stretches) - 1; last >= 0 && r.stretches[last][1] == n-1 {
		r.stretches[last][1] = n
		return
	}
	r.stretches = append(r.stretches, [2]int{n, n})
}

func (r *ranges) String() string {
	var b strings.Builder
	for i, s := range r.stretches {
		switch {
		case i == stretchesShown:
			return b.String() + ", ..."
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(s[0]))
		if s[1] > s[0] {
			b.WriteString("-" + strconv.Itoa(s[1]))
		}
	}
	return b.String()
}
