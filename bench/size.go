package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// payloadBytesMax is the largest payload: a record of it still fits the default limits of a broker.
const payloadBytesMax = 1<<20 - 4096

// SizeDist says how payload sizes vary. The zero value is no variation.
type SizeDist struct {
	kind     string // "", "uniform", "exp"
	min, top int
}

// ParseSizeDist reads fixed, uniform:MIN-MAX, or exp (exponential around the size, at most eight times it).
func ParseSizeDist(text string) (SizeDist, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "" || text == "fixed":
		return SizeDist{}, nil
	case text == "exp":
		return SizeDist{kind: "exp"}, nil
	case kind == "uniform":
		low, high, _ := strings.Cut(rest, "-")
		a, errA := strconv.Atoi(low)
		b, errB := strconv.Atoi(high)
		if errA == nil && errB == nil && stampBytes <= a && a <= b && b <= payloadBytesMax {
			return SizeDist{"uniform", a, b}, nil
		}
	}
	return SizeDist{}, fmt.Errorf("size distribution %q: use fixed, exp or uniform:MIN-MAX with %d <= MIN <= MAX <= %d", text, stampBytes, payloadBytesMax)
}

// String is what ParseSizeDist reads.
func (d SizeDist) String() string {
	switch d.kind {
	case "":
		return "fixed"
	case "uniform":
		return fmt.Sprintf("uniform:%d-%d", d.min, d.top)
	}
	return d.kind
}

// max is the largest size that draw gives.
func (d SizeDist) max(size int) int {
	switch d.kind {
	case "uniform":
		return d.top
	case "exp":
		return min(8*size, payloadBytesMax)
	}
	return size
}

func (d SizeDist) draw(r *rand.Rand, size int) int {
	switch d.kind {
	case "uniform":
		return d.min + r.IntN(d.top-d.min+1)
	case "exp":
		return min(max(stampBytes, int(r.ExpFloat64()*float64(size))), d.max(size))
	}
	return size
}
