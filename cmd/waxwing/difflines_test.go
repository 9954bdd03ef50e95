package main

import (
	"slices"
	"strings"
	"testing"
)

func TestDiffLines(t *testing.T) {
	long := strings.Repeat("same\n", 5000)
	many := func(word string) string { return strings.Repeat(word+"\n", 3000) }
	for name, c := range map[string]struct {
		a, b string
		want []string
	}{
		"equal":            {"a\nb\n", "a\nb\n", []string{}},
		"added at the end": {"a\n", "a\nb\n", []string{" a", "+b"}},
		"removed":          {"a\nb\nc\n", "a\nc\n", []string{" a", "-b", " c"}},
		"changed far in":   {long + "x\n" + long, long + "y\n" + long, []string{"...", " same", " same", " same", "-x", "+y", " same", " same", " same", "..."}},
		"moved":            {"a\nb\nc\n", "c\na\nb\n", []string{"+c", " a", " b", "-c"}},
		"only a newline":   {"a", "a\n", []string{}},
	} {
		if got := diffLines(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	// Two texts whose table would be too large: everything goes, everything comes.
	if got := diffLines(many("x"), many("y")); len(got) != 6000 || got[0] != "-x" || got[5999] != "+y" {
		t.Errorf("%d lines", len(got))
	}
}

func TestRanges(t *testing.T) {
	var r ranges
	for _, n := range []int{1, 3, 4, 5, 9} {
		r.add(n)
	}
	if r.String() != "1, 3-5, 9" || r.count != 5 {
		t.Errorf("%q, %d", &r, r.count)
	}
	for n := 11; n < 400; n += 2 {
		r.add(n)
	}
	if text := r.String(); !strings.HasSuffix(text, ", ...") || len(text) > 300 {
		t.Errorf("%q", text)
	}
}
