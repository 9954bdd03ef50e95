package topic_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/topic"
)

func pattern(t testing.TB, s string) topic.Pattern {
	t.Helper()
	p, err := topic.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func patterns(t testing.TB, ss ...string) []topic.Pattern {
	t.Helper()
	var ps []topic.Pattern
	for _, s := range ss {
		ps = append(ps, pattern(t, s))
	}
	return ps
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "A", false},
		{"a", "ab", false},
		{"a.b", "a", false},
		{"a", "a.b", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"a.*", "a", false},
		{"a.*", "a.b", true},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{">", "a", true},
		{">", segments("a", 16), true},
		{"a.>", "a", false},
		{"a.>", "a.b.c", true},
		{"*.>", "a", false},
		{"*.b.>", "a.b.c.d", true},
	} {
		if got := pattern(t, c.pattern).Match(topic.Name(c.name)); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.name, got)
		}
	}
	if (topic.Pattern{}).Match("a") || pattern(t, ">").Match("") {
		t.Error("the zero pattern or name matches")
	}
}

func TestCovered(t *testing.T) {
	var lengths []string // '*', '*.*', ... up to the most segments a name has
	for n := range topic.MaxSegments {
		lengths = append(lengths, segments("*", n+1))
	}
	for _, c := range []struct {
		name, q string
		by      []string
		want    bool
	}{
		{"nothing covers nothing", "a", nil, false},
		{"itself", "a.*", []string{"a.*"}, true},
		{"star in tail", "a.*", []string{"a.>"}, true},
		{"tail not in star", "a.>", []string{"a.*"}, false},
		{"tail in union of star and longer", "a.>", []string{"a.*", "a.*.>"}, true},
		{"tail not in union with a hole", "a.>", []string{"a.*", "a.*.*.>"}, false},
		{"star not in literals", "*", []string{"a", "b"}, false},
		{"tail in all lengths", ">", lengths, true},
		{"tail in all lengths but one", ">", lengths[1:], false},
		{"tail in all lengths but the longest", ">", lengths[:15], false},
		{"literal prefix differs", "a.*", []string{"b.>"}, false},
	} {
		if got := topic.Covered(pattern(t, c.q), patterns(t, c.by...)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The model: a language is the set of its names over a small alphabet with one segment, "z", that no
// pattern spells, up to one segment more than the longest pattern has. Behind that length patterns
// that end in '>' all go on, and the others have ended.
const modelSegments = 4

var modelNames = allNames([]string{"a", "b", "z"}, modelSegments+1)

func allNames(alphabet []string, longest int) []topic.Name {
	level, all := []string{""}, []topic.Name{}
	for range longest {
		var next []string
		for _, prefix := range level {
			for _, seg := range alphabet {
				n := strings.TrimPrefix(prefix+"."+seg, ".")
				next, all = append(next, n), append(all, topic.Name(n))
			}
		}
		level = next
	}
	return all
}

// modelMatch is the definition of a match, written as a recursion over segments.
func modelMatch(pattern, name []string) bool {
	switch {
	case len(pattern) == 0 || len(name) == 0:
		return len(pattern) == len(name)
	case pattern[0] == ">":
		return true
	}
	return (pattern[0] == "*" || pattern[0] == name[0]) && modelMatch(pattern[1:], name[1:])
}

func genPattern() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		segs := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", "*"}), 0, modelSegments-1).Draw(t, "segments")
		last := rapid.SampledFrom([]string{"a", "b", "*", ">", ">"}).Draw(t, "last")
		return strings.Join(append(segs, last), ".")
	})
}

// TestAgainstModel compares Match, Overlaps and Covered with the brute-force model.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q := pattern(t, genPattern().Draw(rt, "q"))
		by := patterns(t, rapid.SliceOfN(genPattern(), 0, 6).Draw(rt, "by")...)
		covered, overlaps := true, make([]bool, len(by))
		for _, n := range modelNames {
			in := modelMatch(strings.Split(q.String(), "."), strings.Split(string(n), "."))
			if got := q.Match(n); got != in {
				rt.Fatalf("%s on %s: %v", q, n, got)
			}
			if !in {
				continue
			}
			inUnion := false
			for i, p := range by {
				if modelMatch(strings.Split(p.String(), "."), strings.Split(string(n), ".")) {
					inUnion, overlaps[i] = true, true
				}
			}
			covered = covered && inUnion
		}
		if got := topic.Covered(q, by); got != covered {
			rt.Fatalf("%s by %v: covered %v, the model says %v", q, by, got, covered)
		}
		for i, p := range by {
			if q.Overlaps(p) != overlaps[i] || p.Overlaps(q) != overlaps[i] {
				rt.Fatalf("%s and %s: overlap %v, the model says %v", q, p, q.Overlaps(p), overlaps[i])
			}
		}
	})
}

// FuzzPattern checks the laws that hold for any two patterns and a name.
func FuzzPattern(f *testing.F) {
	for _, s := range [][3]string{{"a.*", "a.>", "a.b"}, {">", "*", "a"}, {"a.b", "a.b", "a.b"}, {"*.b.>", "a.*.c", "a.b.c"}, {"", ".", "*"}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, a, b, name string) {
		p, errP := topic.ParsePattern(a)
		q, errQ := topic.ParsePattern(b)
		n, errN := topic.ParseName(name)
		if errP != nil || errQ != nil || errN != nil {
			return
		}
		if p.Overlaps(q) != q.Overlaps(p) {
			t.Fatal("overlap is not symmetric")
		}
		if p.Match(n) && q.Match(n) && !p.Overlaps(q) {
			t.Fatal("both match, yet they do not overlap")
		}
		if topic.Covered(p, []topic.Pattern{q}) {
			if p.Match(n) && !q.Match(n) {
				t.Fatal("covered, yet a name is outside")
			}
			if !p.Overlaps(q) {
				t.Fatal("covered, yet no overlap")
			}
		}
		if !topic.Covered(p, []topic.Pattern{p}) {
			t.Fatal("does not cover itself")
		}
	})
}

func TestMatchAllocatesNothing(t *testing.T) {
	p, q, n := pattern(t, "orders.*.created.>"), pattern(t, "orders.eu.>"), topic.Name("orders.eu.created.v1.a")
	if got := testing.AllocsPerRun(100, func() { _ = p.Match(n) && p.Overlaps(q) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkMatch(b *testing.B) {
	p, n := pattern(b, "orders.*.created.>"), topic.Name("orders.eu.created.v1")
	for b.Loop() {
		if !p.Match(n) {
			b.Fatal("no match")
		}
	}
}
