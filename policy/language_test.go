package policy_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/topic"
)

// The brute-force model of A-02: a finite world of names, in which the language of a
// pattern is the set of names that it matches, by the plainest definition. Patterns have
// at most 3 segments of {a, b, *, >}; names at most 5 of {a, b, c}. c is in no pattern
// and 5 is longer than any: what holds in this world holds in the endless one.

const (
	worldDepth   = 5
	patternDepth = 3
)

// set is a set of names of the world, a bit each.
type set [6]uint64

func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool  { return s[i/64]>>(i%64)&1 == 1 }
func (s set) in(of set) bool  { return s.minus(of).size() == 0 }
func (s *set) union(with set) { s.each(with, func(a, b uint64) uint64 { return a | b }) }
func (s set) minus(o set) set { s.each(o, func(a, b uint64) uint64 { return a &^ b }); return s }

func (s *set) each(o set, f func(a, b uint64) uint64) {
	for i := range s {
		s[i] = f(s[i], o[i])
	}
}

func (s set) size() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// world is every name and every pattern with its language.
type world struct {
	names     []topic.Name
	patterns  []string
	languages map[string]set
}

func newWorld() *world {
	w := &world{languages: map[string]set{}}
	for _, n := range words([]string{"a", "b", "c"}, worldDepth) {
		w.names = append(w.names, topic.Name(n))
	}
	for _, p := range words([]string{"a", "b", "*", ">"}, patternDepth) {
		if i := strings.Index(p, ">"); i >= 0 && i != len(p)-1 {
			continue
		}
		w.patterns = append(w.patterns, p)
		w.languages[p] = w.language(p)
	}
	return w
}

// words are all texts of 1 to depth segments.
func words(alphabet []string, depth int) []string {
	all, last := []string{}, []string{""}
	for range depth {
		var next []string
		for _, w := range last {
			for _, seg := range alphabet {
				next = append(next, strings.TrimPrefix(w+"."+seg, "."))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func (w *world) language(pattern string) (s set) {
	for i, n := range w.names {
		if matches(strings.Split(pattern, "."), strings.Split(string(n), ".")) {
			s.add(i)
		}
	}
	return s
}

// matches is the definition of a pattern.
func matches(p, n []string) bool {
	switch {
	case len(p) == 0 || len(n) == 0:
		return len(p) == len(n)
	case p[0] == ">":
		return true
	}
	return (p[0] == "*" || p[0] == n[0]) && matches(p[1:], n[1:])
}

// modelRule is a rule of a random policy.
type modelRule struct {
	allow  bool
	verbs  []policy.Verb
	topics []string // may hold {n}
	groups bool     // with the verb consume, the patterns are of groups, too
	inRole bool
	viaTwo bool // stands in the second binding, which captures nothing
}

// modelPolicy is a random policy, its document, and the identity it is asked about.
type modelPolicy struct {
	rules  []modelRule
	client string // the captured segment
	unsafe bool   // which cannot stand in a topic
}

var modelVerbs = []policy.Verb{policy.Publish, policy.Subscribe, policy.Consume, policy.Manage}

func drawPolicy(rt *rapid.T, w *world) modelPolicy {
	m := modelPolicy{client: rapid.SampledFrom([]string{"a", "b", "a.b"}).Draw(rt, "client")}
	m.unsafe = strings.Contains(m.client, ".")
	for range rapid.IntRange(1, 8).Draw(rt, "rules") {
		r := modelRule{
			allow:  rapid.IntRange(0, 2).Draw(rt, "allow") > 0,
			verbs:  rapid.SliceOfNDistinct(rapid.SampledFrom(modelVerbs), 1, 3, rapid.ID).Draw(rt, "verbs"),
			inRole: rapid.Bool().Draw(rt, "role"),
			groups: rapid.Bool().Draw(rt, "groups"),
			viaTwo: rapid.Bool().Draw(rt, "second"),
		}
		for range rapid.IntRange(1, 4).Draw(rt, "patterns") {
			p := rapid.SampledFrom(w.patterns).Draw(rt, "pattern")
			if !r.viaTwo && rapid.IntRange(0, 3).Draw(rt, "template") == 0 {
				p = strings.ReplaceAll(p, "b", "{n}")
			}
			r.topics = append(r.topics, p)
		}
		m.rules = append(m.rules, r)
	}
	return m
}

func (m *modelPolicy) identity() string { return "spiffe://x/client/" + m.client }

// document writes the policy. Both bindings match the identity.
func (m *modelPolicy) document() string {
	list := func(indent string, want func(modelRule) bool) string {
		var s strings.Builder
		for _, key := range []string{"allow", "deny"} {
			fmt.Fprintf(&s, "%s%s:\n", indent, key)
			fmt.Fprintf(&s, "%s  - {verbs: [observe]}\n", indent)
			for _, r := range m.rules {
				if want(r) && r.allow == (key == "allow") {
					fmt.Fprintf(&s, "%s  - {verbs: [%s], topics: [%s]%s}\n", indent, join(r.verbs, "%s"), join(r.topics, "%q"), r.groupList())
				}
			}
		}
		return s.String()
	}
	var s strings.Builder
	s.WriteString("roles:\n")
	for i, two := range []bool{false, true} {
		fmt.Fprintf(&s, "  r%d:\n%s", i, list("    ", func(r modelRule) bool { return r.inRole && r.viaTwo == two }))
	}
	s.WriteString("bindings:\n")
	for i, id := range []string{"spiffe://x/client/{n}", "spiffe://x/client/*"} {
		fmt.Fprintf(&s, "  - identity: %q\n    roles: [r%d]\n%s", id, i, list("    ", func(r modelRule) bool { return !r.inRole && r.viaTwo == (i == 1) }))
	}
	return s.String()
}

func join[T any](vs []T, format string) string {
	var s []string
	for _, v := range vs {
		s = append(s, fmt.Sprintf(format, v))
	}
	return strings.Join(s, ", ")
}

// ofGroups reports whether a rule is about groups, too.
func (r *modelRule) ofGroups() bool { return r.groups && slices.Contains(r.verbs, policy.Consume) }

func (r *modelRule) groupList() string {
	if !r.ofGroups() {
		return ""
	}
	return ", groups: [" + join(r.topics, "%q") + "]"
}

// languages are what is allowed and what is denied for a verb on topics, or on groups.
func (m *modelPolicy) languages(w *world, v policy.Verb, groups bool) (allow, deny set) {
	for _, r := range m.rules {
		if groups && !r.ofGroups() || !strings.Contains(join(r.verbs, "%s"), v.String()) || r.allow && m.unsafe && !r.viaTwo {
			continue
		}
		for _, p := range r.topics {
			if before, _, uses := strings.Cut(p, "{n}"); uses && m.unsafe {
				p = before + ">"
			}
			l := w.languages[strings.ReplaceAll(p, "{n}", m.client)]
			if r.allow {
				allow.union(l)
			} else {
				deny.union(l)
			}
		}
	}
	return allow, deny
}

// TestLanguageModel: every decision on every name and pattern of the world
// is what set algebra says: a name is allowed if it is in the allowed language and not
// in the denied one; a pattern if its language is inside the allowed one, and not
// wholly denied. A million cases.
func TestLanguageModel(t *testing.T) {
	w := newWorld()
	if len(w.names) != 363 || len(w.patterns) != 52 {
		t.Fatalf("%d names, %d patterns", len(w.names), len(w.patterns))
	}
	cases, allowed := 0, 0
	for range lane.Pick(8, 8, 80) {
		rapid.Check(t, func(rt *rapid.T) {
			m := drawPolicy(rt, w)
			p, err := policy.Compile([]byte(m.document()), 1)
			if err != nil {
				rt.Fatalf("%v\n%s", err, m.document())
			}
			s := p.For(m.identity())
			a, d := m.languages(w, policy.Consume, true)
			for i, n := range w.names {
				want := a.has(i) && !d.has(i)
				if got := s.DecideGroup(n); got.Allow != want {
					rt.Fatalf("group %s: %+v, want %v\n%s", n, got, want, m.document())
				}
				cases++
			}
			for _, v := range modelVerbs {
				a, d := m.languages(w, v, false)
				for i, n := range w.names {
					want := a.has(i) && !d.has(i)
					if got := s.Decide(v, n); got.Allow != want {
						rt.Fatalf("%s %s: %+v, want %v\n%s", v, n, got, want, m.document())
					}
					cases++
				}
				for _, q := range w.patterns {
					l := w.languages[q]
					want := l.in(a) && !l.in(d)
					got := s.DecidePattern(v, pattern(rt, q))
					if got.Allow != want {
						rt.Fatalf("%s %s: %+v, want %v\n%s", v, q, got, want, m.document())
					}
					if cases++; got.Allow {
						allowed++
					}
				}
			}
		})
	}
	if least := lane.Pick(1_000_000, 1_000_000, 10_000_000); cases < least || allowed == 0 {
		t.Errorf("%d cases, %d patterns allowed; wanted %d cases", cases, allowed, least)
	}
}

func pattern(t interface{ Fatal(...any) }, s string) topic.Pattern {
	p, err := topic.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOrderDoesNotMatter: the same rules in any order, in a role or inline,
// allow and deny the same.
func TestOrderDoesNotMatter(t *testing.T) {
	w := newWorld()
	rapid.Check(t, func(rt *rapid.T) {
		m := drawPolicy(rt, w)
		first := compileFor(rt, &m)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 1))
		random.Shuffle(len(m.rules), func(i, j int) { m.rules[i], m.rules[j] = m.rules[j], m.rules[i] })
		for i := range m.rules {
			m.rules[i].inRole = random.IntN(2) == 0
		}
		second := compileFor(rt, &m)
		for _, n := range w.names {
			if a, b := first.DecideGroup(n), second.DecideGroup(n); a.Allow != b.Allow {
				rt.Fatalf("group %s: %+v, in another order %+v\n%s", n, a, b, m.document())
			}
		}
		for _, v := range modelVerbs {
			for _, n := range w.names {
				if a, b := first.Decide(v, n), second.Decide(v, n); a.Allow != b.Allow {
					rt.Fatalf("%s %s: %+v, in another order %+v\n%s", v, n, a, b, m.document())
				}
			}
			for _, q := range w.patterns {
				if a, b := first.DecidePattern(v, pattern(rt, q)), second.DecidePattern(v, pattern(rt, q)); a.Allow != b.Allow {
					rt.Fatalf("%s %s: %+v, in another order %+v\n%s", v, q, a, b, m.document())
				}
			}
		}
	})
}

func compileFor(rt *rapid.T, m *modelPolicy) *policy.Subject {
	p, err := policy.Compile([]byte(m.document()), 1)
	if err != nil {
		rt.Fatalf("%v\n%s", err, m.document())
	}
	return p.For(m.identity())
}
