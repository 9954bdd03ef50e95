package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Cuts names a sealed segment: the cuts that it covers, equal unless it was merged, and how often it was written again
// under the same numbers.
type Cuts struct {
	First, Last uint64
	Generation  uint64
}

func (c Cuts) String() string { return fmt.Sprintf("%d-%d", c.First, c.Last) }

// Overlap says that two sealed segments cover some cuts in common, and neither the other: a crash cannot leave that.
type Overlap struct{ A, B Cuts }

func (o *Overlap) Error() string {
	return fmt.Sprintf("segments %v and %v overlap: one of them does not belong here", o.A, o.B)
}

// Resolve sorts the sealed segments that a start finds, and sorts out those that a merged one covers: a crash came
// between its SEALED and their deletion. It returns indexes: of those to keep, in order, and of those to delete. An
// error is an *Overlap.
func Resolve(found []Cuts) (keep, covered []int, err error) {
	order := make([]int, len(found))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := found[i], found[j]
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last), cmp.Compare(b.Generation, a.Generation))
	})
	for _, i := range order {
		if n := len(keep); n > 0 && found[i].First <= found[keep[n-1]].Last {
			if found[i].Last > found[keep[n-1]].Last {
				return nil, nil, &Overlap{found[keep[n-1]], found[i]}
			}
			covered = append(covered, i)
			continue
		}
		keep = append(keep, i)
	}
	return keep, covered, nil
}

// Span is a range of a partition's records: Base to Next-1.
type Span struct {
	Base, Next int64
}

// Hole finds the first records from low to next-1 that are neither in the spans of the segments, oldest first, nor in the
// tail that memory has; ok is false if there is none. before is the index of the span behind the hole, or -1.
func Hole(low, next int64, spans []Span, tail Span) (hole Span, before int, ok bool) {
	at := low
	for i, s := range spans {
		if s.Next <= at {
			continue
		}
		if s.Base > at {
			return Span{at, s.Base}, i, true
		}
		at = s.Next
	}
	if tail.Base <= at {
		at = max(at, tail.Next)
	}
	return Span{at, next}, -1, at < next
}
