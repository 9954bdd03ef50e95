package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/waxwing-mq/waxwing/storage/plan"
)

// TestResolve: what a start keeps of the segments that it finds, and what it deletes.
func TestResolve(t *testing.T) {
	cuts := func(list ...[3]uint64) (out []plan.Cuts) {
		for _, c := range list {
			out = append(out, plan.Cuts{First: c[0], Last: c[1], Generation: c[2]})
		}
		return out
	}
	for name, c := range map[string]struct {
		found         []plan.Cuts
		keep, covered []int
		overlap       bool
	}{
		"nothing":                  {},
		"in any order":             {found: cuts([3]uint64{3, 3}, [3]uint64{1, 1}, [3]uint64{2, 2}), keep: []int{1, 2, 0}},
		"one was deleted":          {found: cuts([3]uint64{1, 1}, [3]uint64{4, 4}), keep: []int{0, 1}},
		"merged, the old ones too": {found: cuts([3]uint64{1, 1}, [3]uint64{2, 2}, [3]uint64{1, 2}, [3]uint64{3, 3}), keep: []int{2, 3}, covered: []int{0, 1}},
		"merged, one is left":      {found: cuts([3]uint64{1, 3}, [3]uint64{3, 3}), keep: []int{0}, covered: []int{1}},
		"written again":            {found: cuts([3]uint64{2, 2, 0}, [3]uint64{2, 2, 1}), keep: []int{1}, covered: []int{0}},
		"merged twice":             {found: cuts([3]uint64{1, 2}, [3]uint64{1, 4}, [3]uint64{3, 3}), keep: []int{1}, covered: []int{0, 2}},
		"overlap":                  {found: cuts([3]uint64{1, 3}, [3]uint64{2, 4}), overlap: true},
	} {
		keep, covered, err := plan.Resolve(c.found)
		var overlap *plan.Overlap
		if errors.As(err, &overlap) != c.overlap || !slices.Equal(keep, c.keep) || !slices.Equal(covered, c.covered) {
			t.Errorf("%s: keep %v, covered %v, %v", name, keep, covered, err)
		}
	}
}

// TestHole finds what is missing between segments, at the end and at the beginning.
func TestHole(t *testing.T) {
	for name, c := range map[string]struct {
		low, next int64
		spans     []plan.Span
		tail      plan.Span
		want      string
	}{
		"nothing written":         {want: "none"},
		"all in segments":         {0, 9, []plan.Span{{0, 4}, {4, 9}}, plan.Span{}, "none"},
		"all in memory":           {3, 9, nil, plan.Span{Base: 3, Next: 9}, "none"},
		"segment, then memory":    {0, 9, []plan.Span{{0, 4}}, plan.Span{Base: 2, Next: 9}, "none"},
		"the first is missing":    {0, 9, []plan.Span{{4, 9}}, plan.Span{}, "0-4 before 0"},
		"one between is missing":  {0, 9, []plan.Span{{0, 2}, {2, 4}, {6, 9}}, plan.Span{}, "4-6 before 2"},
		"the newest are missing":  {0, 9, []plan.Span{{0, 4}}, plan.Span{}, "4-9 before -1"},
		"memory begins behind it": {0, 9, []plan.Span{{0, 4}}, plan.Span{Base: 5, Next: 9}, "4-9 before -1"},
		"missing, but trimmed":    {4, 9, []plan.Span{{0, 1}, {4, 9}}, plan.Span{}, "none"},
		"trimmed to a middle":     {6, 9, []plan.Span{{0, 2}, {4, 9}}, plan.Span{}, "none"},
	} {
		got := "none"
		if hole, before, ok := plan.Hole(c.low, c.next, c.spans, c.tail); ok {
			got = fmt.Sprintf("%d-%d before %d", hole.Base, hole.Next, before)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestLog: from where the raft log stays, and which logs may start beside which segments.
func TestLog(t *testing.T) {
	for _, c := range [][4]uint64{ // from, point, window, want
		{1, 5, 10, 1}, {1, 500, 10, 1}, {101, 500, 10, 100}, {495, 500, 10, 490}, {500, 500, 1024, 1}, {1500, 1501, 1024, 477}, {0, 3, 0, 1},
	} {
		if got := plan.KeepLog(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("segment of entries %d to %d, window %d: keep from %d, want %d", c[0], c[1], c[2], got, c[3])
		}
	}
	failed := errors.New("the disk says no")
	for name, c := range map[string]struct {
		first, last, index, term uint64
		at                       uint64
		err                      error
		want                     plan.Fit
	}{
		"both empty":              {want: plan.Fits},
		"no segment":              {first: 1, last: 9, want: plan.Fits},
		"no segment, begins late": {first: 2, last: 9, want: plan.NoSegment},
		"holds the point":         {first: 3, last: 9, index: 5, term: 2, at: 2, want: plan.Fits},
		"ends at the point":       {first: 3, last: 5, index: 5, term: 2, at: 2, want: plan.Fits},
		"begins at the point":     {first: 5, last: 9, index: 5, term: 2, at: 2, want: plan.Fits},
		"another term":            {first: 3, last: 9, index: 5, term: 2, at: 3, want: plan.OtherTerm},
		"ends before":             {first: 3, last: 4, index: 5, term: 2, want: plan.EndsEarly},
		"empty":                   {index: 5, term: 2, want: plan.EndsEarly},
		"begins behind":           {first: 6, last: 9, index: 5, term: 2, want: plan.BeginsLate},
		"cannot be read":          {first: 3, last: 9, index: 5, term: 2, err: failed},
	} {
		got, err := plan.FitLog(c.first, c.last, c.index, c.term, func() (uint64, error) { return c.at, c.err })
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestMerge: which run of old segments is merged.
func TestMerge(t *testing.T) {
	const most = 800
	u := func(bytes, live uint64) plan.Usage { return plan.Usage{Bytes: bytes, Live: live} }
	times := func(n int, u plan.Usage) (list []plan.Usage) { return slices.Repeat([]plan.Usage{u}, n) }
	join := func(lists ...[]plan.Usage) []plan.Usage { return slices.Concat(lists...) }
	full, small, half := u(800, 800), u(50, 50), u(800, 300)
	fixed := plan.Usage{Bytes: 800, Live: 100, Fixed: true}
	for name, c := range map[string]struct {
		old      []plan.Usage
		from, to int
	}{
		"nothing":                            {nil, 0, 0},
		"all full":                           {times(9, full), 0, 0},
		"one half dead":                      {join(times(2, full), times(1, half), times(2, full)), 2, 3},
		"neighbours that fit":                {join(times(2, full), times(3, half)), 2, 4},
		"the first run, not the longest":     {join(times(1, half), times(1, full), times(2, half)), 0, 1},
		"a fixed one ends a run":             {join(times(1, half), []plan.Usage{fixed}, times(1, half)), 0, 1},
		"fixed ones only":                    {times(3, fixed), 0, 0},
		"seven small ones":                   {times(7, small), 0, 0},
		"eight small ones":                   {times(8, small), 0, 8},
		"eight small ones behind a full one": {join(times(1, full), times(8, small)), 1, 9},
		"eight behind three and a full one":  {join(times(3, small), times(1, full), times(9, small)), 4, 13},
		"of any size, if it fits":            {join(times(7, small), times(1, u(300, 300))), 0, 8},
		"none doubles the largest":           {join(times(7, small), times(1, u(400, 400))), 0, 0},
		"a fixed one ends small ones":        {join(times(7, small), []plan.Usage{fixed}, times(7, small)), 0, 0},
		"so many as fit":                     {times(40, u(90, 90)), 0, 8},
	} {
		if from, to := plan.Merge(c.old, most); from != c.from || to != c.to {
			t.Errorf("%s: %d to %d, want %d to %d", name, from, to, c.from, c.to)
		}
	}
	if plan.Old(1) != 0 || plan.Old(2) != 0 || plan.Old(5) != 3 {
		t.Error("the newest two are not kept")
	}
	if u(9, 0).Dead() != true || u(9, 1).Dead() || fixed.Dead() || (plan.Usage{Bytes: 9, Fixed: true}).Dead() {
		t.Error("dead is what has nothing to read and may go")
	}
}

// TestPairs: which segments of two nodes stand for each other.
func TestPairs(t *testing.T) {
	cuts := func(list ...[2]uint64) (out []plan.Cuts) {
		for _, c := range list {
			out = append(out, plan.Cuts{First: c[0], Last: c[1]})
		}
		return out
	}
	for name, c := range map[string]struct {
		own, other []plan.Cuts
		want       []plan.Pair
		crossing   bool
	}{
		"nothing":          {},
		"the same":         {own: cuts([2]uint64{1, 1}, [2]uint64{2, 2}), other: cuts([2]uint64{1, 1}, [2]uint64{2, 2}), want: []plan.Pair{{0, 1, 0, 1}, {1, 2, 1, 2}}},
		"one is lost":      {own: cuts([2]uint64{2, 2}), other: cuts([2]uint64{1, 1}, [2]uint64{2, 2}), want: []plan.Pair{{0, 0, 0, 1}, {0, 1, 1, 2}}},
		"the other's is":   {own: cuts([2]uint64{1, 1}, [2]uint64{2, 2}), other: cuts([2]uint64{1, 1}), want: []plan.Pair{{0, 1, 0, 1}, {1, 2, 1, 1}}},
		"the other merged": {own: cuts([2]uint64{1, 1}, [2]uint64{2, 2}, [2]uint64{3, 3}), other: cuts([2]uint64{1, 2}, [2]uint64{3, 3}), want: []plan.Pair{{0, 2, 0, 1}, {2, 3, 1, 2}}},
		"own is merged":    {own: cuts([2]uint64{1, 3}), other: cuts([2]uint64{1, 1}, [2]uint64{3, 3}), want: []plan.Pair{{0, 1, 0, 2}}},
		"crossing":         {own: cuts([2]uint64{1, 2}, [2]uint64{3, 4}), other: cuts([2]uint64{1, 1}, [2]uint64{2, 3}, [2]uint64{4, 4}), want: []plan.Pair{{0, 2, 0, 3}}, crossing: true},
		"longer there":     {own: cuts([2]uint64{2, 3}), other: cuts([2]uint64{1, 2}, [2]uint64{3, 5}), want: []plan.Pair{{0, 1, 0, 2}}, crossing: true},
	} {
		got := plan.Pairs(c.own, c.other)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		crossing := false
		for _, p := range got {
			crossing = crossing || p.From < p.To && p.OtherFrom < p.OtherTo && !plan.Nested(c.own[p.From:p.To], c.other[p.OtherFrom:p.OtherTo])
		}
		if crossing != c.crossing {
			t.Errorf("%s: crossing %v", name, crossing)
		}
	}
}
