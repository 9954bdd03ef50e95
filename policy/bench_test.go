package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/topic"
)

const someone = "spiffe://example/client/orders"

// manyRules is a document that gives someone n rules: exact names, prefixes, wildcards
// in the middle, a template, and denies.
func manyRules(n int) []byte {
	var b strings.Builder
	b.WriteString("roles:\n  many:\n    allow:\n")
	for i := range n {
		pattern := [...]string{"team%d.orders.eu", "team%d.orders.>", "shared.*.t%d", "shared.orders.t%d", "svc.{name}.t%d"}[i%5]
		fmt.Fprintf(&b, "      - {verbs: [publish, subscribe], topics: [\""+pattern+"\"]}\n", i)
	}
	b.WriteString("    deny:\n")
	for i := range n / 10 {
		fmt.Fprintf(&b, "      - {verbs: [publish], topics: [\"team%d.orders.internal.>\"]}\n", i*10+1)
	}
	b.WriteString("bindings:\n  - identity: \"spiffe://example/client/{name}\"\n    roles: [many]\n")
	return []byte(b.String())
}

func compile(t testing.TB, doc []byte) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(doc, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var names = []topic.Name{"team5.orders.eu", "team6.orders.internal.audit.log", "shared.x.t2", "shared.orders.t3", "svc.orders.t4", "other.topic"}

// TestDecideAllocatesNothing guards the hot path.
func TestDecideAllocatesNothing(t *testing.T) {
	s := compile(t, manyRules(100)).For(someone)
	allowed := 0
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range names {
			if s.Decide(policy.Publish, name).Allow {
				allowed++
			}
		}
		s.Has(policy.Admin)
		s.DecideGroup("g")
	}); n != 0 {
		t.Errorf("%v allocations for %d decisions", n, len(names))
	}
	if allowed == 0 {
		t.Error("nothing was allowed: the guard measures the wrong thing")
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		s := compile(b, manyRules(n)).For(someone)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Decide(policy.Publish, names[i%len(names)])
				i++
			}
		})
	}
}

func BenchmarkDecidePattern(b *testing.B) {
	s := compile(b, manyRules(100)).For(someone)
	p, _ := topic.ParsePattern("team6.orders.*.>")
	for b.Loop() {
		s.DecidePattern(policy.Subscribe, p)
	}
}

func BenchmarkFor(b *testing.B) {
	p := compile(b, manyRules(100))
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			p.For(someone)
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			p.For(fmt.Sprintf("spiffe://example/client/c%d", i))
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	doc := manyRules(100)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := policy.Compile(doc, 1); err != nil {
			b.Fatal(err)
		}
	}
}
