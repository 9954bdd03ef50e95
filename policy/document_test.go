package policy_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/topic"
)

// TestDenyAll: no policy, an empty one and an empty principal deny everything, A-01's
// default.
func TestDenyAll(t *testing.T) {
	empty := compile(t, []byte("roles: {}"))
	dev := compile(t, policy.Dev("dev"))
	for name, s := range map[string]*policy.Subject{
		"no policy": policy.DenyAll(1).For("spiffe://dev/client/a"), "empty": empty.For("spiffe://dev/client/a"), "no rule": compile(t, []byte("bindings: []\ntests: []")).For(someone),
		"nobody": dev.For(""), "other domain": dev.For("spiffe://prod/client/a"), "broker": dev.For("spiffe://dev/broker/n1"),
	} {
		for _, v := range append(policy.Verbs(), 0, 99) {
			for _, d := range []policy.Decision{s.Decide(v, "a"), s.Decide(v, ""), s.DecidePattern(v, pattern(t, ">")), s.DecidePattern(v, topic.Pattern{}), s.DecideGroup("g"), s.DecideGroup(""), s.Has(v)} {
				if d.Allow || d.Reason == "" || d.Version != 1 {
					t.Errorf("%s: %v: %+v", name, v, d)
				}
			}
		}
		if r := s.Rights(); len(r) != 0 {
			t.Errorf("%s: rights %v", name, r)
		}
	}
	if _, ok := policy.DenyAll(1).AutoCreate("a"); ok {
		t.Error("DenyAll creates topics")
	}
}

// TestDev: the developer's policy lets every client do everything, and says so itself.
func TestDev(t *testing.T) {
	p := compile(t, policy.Dev("my.domain"))
	s := p.For("spiffe://my.domain/ns/a/sa/b")
	for _, v := range policy.Verbs() {
		if v.HasResource() && !(s.Decide(v, "x.y").Allow && s.DecidePattern(v, pattern(t, ">")).Allow) {
			t.Errorf("%v on a topic is denied", v)
		}
		if !v.HasResource() && !s.Has(v).Allow {
			t.Errorf("%v is denied", v)
		}
	}
	for _, d := range []policy.Decision{
		s.Decide(policy.Publish, ""), s.DecideGroup(""), s.DecidePattern(policy.Subscribe, topic.Pattern{}), s.Has(policy.Publish),
		s.Decide(policy.Admin, "a"), s.DecidePattern(policy.Admin, pattern(t, "a.*")), s.Decide(99, "a"), s.Has(99),
	} {
		if d.Allow {
			t.Errorf("a question without sense is allowed: %+v", d)
		}
	}
	if !s.DecideGroup("g").Allow {
		t.Error("groups are denied")
	}
	if spec, ok := p.AutoCreate("x.y"); !ok || spec != (policy.Spec{Partitions: 1}) {
		t.Errorf("auto-create: %+v, %v", spec, ok)
	}
	if err := p.LocksOut(nil, "spiffe://my.domain/client/a"); err != nil {
		t.Error(err)
	}
}

func TestAutoCreate(t *testing.T) {
	p := compile(t, []byte(`
auto_create:
  - topics: "orders.*"
    partitions: 3
    max_age: 7d
    max_bytes: 2GiB
    max_records: 1000
  - topics: ["orders.>", logs]
    max_age: 90m
    max_bytes: 512
`))
	day := uint64(24 * 3600 * 1000)
	for name, want := range map[topic.Name]policy.Spec{
		"orders.eu":   {Partitions: 3, MaxAgeMs: 7 * day, MaxBytes: 2 << 30, MaxRecords: 1000},
		"orders.eu.x": {Partitions: 1, MaxAgeMs: 90 * 60 * 1000, MaxBytes: 512},
		"logs":        {Partitions: 1, MaxAgeMs: 90 * 60 * 1000, MaxBytes: 512},
		"orders":      {},
	} {
		if got, ok := p.AutoCreate(name); got != want || ok != (want.Partitions > 0) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}

// TestRights lists rights in the order of the document, denies too.
func TestRights(t *testing.T) {
	p := compile(t, []byte(`roles:
  r:
    deny: [{verbs: [publish], topics: ["a.b"]}]
bindings:
  - identity: "spiffe://x/client/{n}"
    allow:
      - {verbs: [consume, publish], topics: ["a.>", "{n}"], groups: ["{n}"]}
      - {verbs: [admin]}
    roles: [r]
`))
	want := []policy.Right{
		{Allow: true, Verb: policy.Admin, Rule: "bindings[0].allow[1]", Line: 8},
		{Verb: policy.Publish, Pattern: "a.b", Rule: "roles.r.deny[0]", Line: 3},
		{Allow: true, Verb: policy.Publish, Pattern: "a.>", Rule: "bindings[0].allow[0]", Line: 7},
		{Allow: true, Verb: policy.Consume, Pattern: "a.>", Rule: "bindings[0].allow[0]", Line: 7},
		{Allow: true, Verb: policy.Publish, Pattern: "me", Rule: "bindings[0].allow[0]", Line: 7},
		{Allow: true, Verb: policy.Consume, Pattern: "me", Rule: "bindings[0].allow[0]", Line: 7},
		{Allow: true, Verb: policy.Consume, Pattern: "group:me", Rule: "bindings[0].allow[0]", Line: 7},
	}
	if diff := cmp.Diff(want, p.For("spiffe://x/client/me").Rights()); diff != "" {
		t.Error(diff)
	}
}

// TestReasons: a decision always says why.
func TestReasons(t *testing.T) {
	p := compile(t, []byte(`bindings:
  - identity: "spiffe://x/client/a"
    allow: [{verbs: [subscribe], topics: ["a", "b.*"]}, {verbs: [subscribe], topics: ["b.*.>"]}]
    deny: [{verbs: [subscribe], topics: ["a"]}]
`))
	a := p.For("spiffe://x/client/a")
	for _, c := range []struct {
		got  policy.Decision
		want string
	}{
		{a.Decide(policy.Subscribe, "b.c"), policy.ReasonAllowed},
		{a.DecidePattern(policy.Subscribe, pattern(t, "b.>")), policy.ReasonCombined},
		{a.Decide(policy.Subscribe, "a"), policy.ReasonDenied},
		{a.Decide(policy.Subscribe, "c"), policy.ReasonNoRule},
		{a.DecidePattern(policy.Subscribe, pattern(t, "*.c")), policy.ReasonPartly},
		{a.DecidePattern(policy.Subscribe, pattern(t, "c.*")), policy.ReasonNoRule},
		{p.For("spiffe://x/client/b").Decide(policy.Subscribe, "a"), policy.ReasonNoBinding},
	} {
		if c.got.Reason != c.want {
			t.Errorf("%+v, want %q", c.got, c.want)
		}
	}
}

// TestDocumentTests: what a document says of itself is checked, and a failure says what,
// where and why.
func TestDocumentTests(t *testing.T) {
	p := compile(t, []byte(`bindings:
  - identity: spiffe://x/client/a
    allow: [{verbs: [publish, consume], topics: ["a.>"], groups: [g]}, {verbs: [observe]}]
tests:
  - identity: spiffe://x/client/a
    can: ["publish a.b", "publish a.*", "consume group:g", "consume a.b", "observe"]
    cannot: ["publish a", "subscribe a.b", "admin", "consume group:h"]
  - identity: spiffe://x/client/a
    can: ["publish b"]
    cannot:
      - "publish a.c"
`))
	var got []string
	for _, f := range p.Test() {
		got = append(got, f.String())
	}
	want := []string{
		"line 9: spiffe://x/client/a should be one that can publish b, but cannot (no rule allows it)",
		"line 11: spiffe://x/client/a should be one that cannot publish a.c, but can (an allow rule matches: bindings[0].allow[0], line 3)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLockout: nobody takes away the caller's admin, or the last one, by mistake.
func TestLockout(t *testing.T) {
	const anna, otto = "spiffe://x/ops/anna", "spiffe://x/ops/otto"
	allow := func(id string) string { return fmt.Sprintf("  - {identity: %q, allow: [{verbs: [admin]}]}\n", id) }
	deny := func(id string) string { return fmt.Sprintf("  - {identity: %q, deny: [{verbs: [admin]}]}\n", id) }
	old := compile(t, []byte("bindings:\n"+allow(anna)))
	for _, c := range []struct {
		name, doc, caller string
		locks             bool
	}{
		{"empty", "", anna, true},
		{"empty, by a tool", "", "", true},
		{"the caller stays", allow(anna), anna, false},
		{"handed over to another", allow(otto), anna, true},
		{"handed over by a tool", allow(otto), "", false},
		{"by somebody who was none", allow(otto), otto, false},
		{"the caller is denied", allow("spiffe://x/ops/*") + deny(anna), anna, true},
		{"all are denied, by name and pattern", allow("spiffe://x/ops/*") + deny("spiffe://x/ops/{who}"), "", true},
		{"all of the tail are denied", allow("spiffe://x/>") + deny("spiffe://x/>"), "", true},
		{"one level of the tail is denied", allow("spiffe://x/>") + deny("spiffe://x/*"), "", false},
		{"one of a pattern is denied", allow("spiffe://x/ops/{who}") + deny(otto), "", false},
		{"only another verb", fmt.Sprintf("  - {identity: %q, allow: [{verbs: [observe]}]}\n", anna), "", true},
	} {
		doc := "roles: {}\n"
		if c.doc != "" {
			doc += "bindings:\n" + c.doc
		}
		err := compile(t, []byte(doc)).LocksOut(old, c.caller)
		if (err != nil) != c.locks || err != nil && !errors.Is(err, policy.ErrLockout) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDocumentLimits: a document that would cost too much is refused, at the limit
// exactly, and quickly.
func TestDocumentLimits(t *testing.T) {
	repeat := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			s.WriteString(strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return s.String()
	}
	one := "  - {identity: \"spiffe://x/client/*\", roles: [r]}\n"
	patterns := func(n int) string { return repeat(n, "\"p#\",") }
	role := func(n int) string {
		return "roles:\n  r: {allow: [{verbs: [publish], topics: [" + patterns(n) + "]}]}\n"
	}
	for _, c := range []struct {
		name, doc, want string
	}{
		{"bytes", "roles: {} #" + strings.Repeat("#", policy.DocumentBytesMax-11), ""},
		{"bytes over", strings.Repeat("#", policy.DocumentBytesMax+1), "bytes"},
		{"roles over", "roles:\n" + repeat(1_001, "  r#: {}\n"), "roles has 1001 items"},
		{"bindings over", "bindings:\n" + repeat(10_001, "  - x\n"), "10001 items"},
		{"rules over", "roles:\n  r:\n    allow: [" + repeat(10_001, "{verbs: [admin]},") + "]\n", "10001 items"},
		{"rules over in two", "roles:\n" + repeat(11, "  r#: {allow: ["+repeat(1_000, "{verbs: [admin]},")+"]}\n"), "more than 10000 rules"},
		{"patterns over", role(20_001), "20001 items"},
		{"subject at the limit", role(4_999) + "bindings:\n" + one, ""},
		{"subject over", role(5_000) + "bindings:\n" + one, "more than 5000 patterns"},
		{"subject over by many bindings", role(100) + "bindings:\n" + strings.Repeat(one, 60), "more than 5000 patterns"},
		{"literal over behind wildcards", role(2_500) + "bindings:\n  - {identity: spiffe://x/client/a, roles: [r]}\n" + one, "more than 5000 patterns"},
		{"other identities do not add up", role(2_000) + "bindings:\n" + repeat(20, "  - {identity: spiffe://x/client/c#, roles: [r]}\n") + one, ""},
		{"tests over", "tests:\n" + repeat(1_001, "  - x\n"), "1001 items"},
		{"checks over", "tests:\n" + repeat(3, "  - {identity: spiffe://x/a, can: ["+strings.Repeat("admin,", 700)+"]}\n"), "more than 2000 lines"},
		{"auto_create over", "auto_create:\n" + repeat(1_001, "  - x\n"), "1001 items"},
		{"nesting", strings.Repeat("[", 20_000), "not valid YAML"},
		{"alias bomb", "roles: {a: &a [x,x], b: &b [*a,*a], c: &c [*b,*b], d: [*c,*c]}\n", "not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := policy.Compile([]byte(c.doc), 1)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				p.For("spiffe://x/client/a")
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%.500v, want %q", err, c.want)
			}
			if es, ok := errors.AsType[policy.Errors](err); !ok || len(es) > 50 {
				t.Errorf("%T with %d faults", err, len(es))
			}
		})
	}
}

// TestSubjectsConcurrently: the cache of subjects is safe and stays bounded.
func TestSubjectsConcurrently(t *testing.T) {
	p := compile(t, manyRules(100))
	var was, is runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&was)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3_000 {
				s := p.For(fmt.Sprintf("spiffe://example/client/c%d", g*1_000+i))
				if !s.Decide(policy.Publish, "team5.orders.eu").Allow {
					t.Error("denied")
					return
				}
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&is)
	if grown := int64(is.HeapAlloc) - int64(was.HeapAlloc); grown > 300<<20 {
		t.Errorf("6,000 subjects keep %d MiB", grown>>20)
	}
	runtime.KeepAlive(p)
}

// TestSharedSubjects: principals with the same bindings share what was built for them,
// and nobody else does.
func TestSharedSubjects(t *testing.T) {
	p := compile(t, []byte(`bindings:
  - {identity: "spiffe://x/client/*", allow: [{verbs: [publish], topics: [all]}]}
  - {identity: "spiffe://x/client/{n}", deny: [{verbs: [publish], topics: [dotless]}], allow: [{verbs: [publish], topics: [safe]}]}
  - {identity: "spiffe://x/client/c", allow: [{verbs: [publish], topics: [c]}]}
  - {identity: "spiffe://x/own/{n}", allow: [{verbs: [publish], topics: ["{n}"]}]}
  - {identity: "spiffe://x/solo/a", allow: [{verbs: [publish], topics: [a]}]}
  - {identity: "spiffe://x/solo/b", allow: [{verbs: [publish], topics: [b]}]}
`))
	a, b, c, dotted := p.For("spiffe://x/client/a"), p.For("spiffe://x/client/b"), p.For("spiffe://x/client/c"), p.For("spiffe://x/client/d.d")
	if a != b || a == c || a == dotted {
		t.Errorf("a shares with b: %v, with c: %v, with d.d: %v", a == b, a == c, a == dotted)
	}
	if dotted.Decide(policy.Publish, "safe").Allow || !a.Decide(policy.Publish, "safe").Allow {
		t.Error("an unsafe capture counts for others, or a safe one not")
	}
	if x, y := p.For("spiffe://x/own/x"), p.For("spiffe://x/own/y"); x == y || y.Decide(policy.Publish, "x").Allow {
		t.Error("captures are shared")
	}
	if !p.For("spiffe://x/solo/a").Decide(policy.Publish, "a").Allow || p.For("spiffe://x/solo/b").Decide(policy.Publish, "a").Allow {
		t.Error("different bindings are shared")
	}
}

// TestDocumentIsACopy: nobody changes a policy from outside.
func TestDocumentIsACopy(t *testing.T) {
	doc := policy.Dev("x")
	p := compile(t, doc)
	doc[0] = '!'
	p.Document()[0] = '!'
	if !slices.Equal(p.Document(), policy.Dev("x")) {
		t.Error("the document changed")
	}
}

// FuzzCompile (P-04): any bytes compile or are refused with lines inside the document;
// what compiles compiles again, decides without panic, and never allows a broker.
func FuzzCompile(f *testing.F) {
	seeds := [][]byte{policy.Dev("x"), manyRules(5), nil, []byte("roles: {a: &a [*a]}"), []byte("tests: [{identity: spiffe://x/a, can: [publish a]}]")}
	for _, path := range []string{"decide/orders.txt", "decide/identities.txt", "decide/order.txt", "errors/rules.txt", "errors/patterns.txt"} {
		seeds = append(seeds, []byte(scenarioDocument(f, path)))
	}
	if len(seeds) != 10 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, s := range seeds {
		f.Add(s, "spiffe://example/client/a", "orders.eu")
	}
	f.Fuzz(func(t *testing.T, doc []byte, principal, name string) {
		p, err := policy.Compile(doc, 1)
		if err != nil {
			es, ok := errors.AsType[policy.Errors](err)
			if !ok || len(es) == 0 || len(es) > 50 {
				t.Fatalf("%T with %d faults", err, len(es))
			}
			for _, e := range es {
				if e.Line < 0 || e.Line > 2+strings.Count(string(doc), "\n")+strings.Count(string(doc), "\r") {
					t.Errorf("line %d of a document of %d bytes: %s", e.Line, len(doc), e.Text)
				}
			}
			return
		}
		if _, err := policy.Compile(p.Document(), 2); err != nil {
			t.Errorf("compiles once, not twice: %v", err)
		}
		p.Test()
		p.LocksOut(p, principal)
		s := p.For(principal)
		broker := p.For("spiffe://example/broker/" + principal)
		for _, v := range policy.Verbs() {
			s.Explain(v, name)
			if n, err := topic.ParseName(name); err == nil {
				a, b := s.Decide(v, n), s.DecidePattern(v, pattern(t, name))
				if a != b {
					t.Errorf("a name is decided as %+v, as a pattern %+v", a, b)
				}
				if broker.Decide(v, n).Allow {
					t.Error("a broker is allowed")
				}
			}
		}
	})
}
