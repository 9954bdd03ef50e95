package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// testCase is one entry of the document's tests.
type testCase struct {
	identity string
	checks   []check
}

// check is one line of can or cannot.
type check struct {
	text string
	line int
	want bool
	question
}

// TestFailure is a test of the document that does not hold.
type TestFailure struct {
	Line     int
	Identity string
	Test     string // as written, like "publish orders.eu"
	Want     bool   // it stands under can
	Got      Decision
}

func (f TestFailure) String() string {
	want, got := "can", "cannot"
	if !f.Want {
		want, got = got, want
	}
	by := f.Got.Reason
	if f.Got.Rule != "" {
		by = fmt.Sprintf("%s: %s, line %d", by, f.Got.Rule, f.Got.Line)
	}
	return fmt.Sprintf("line %d: %s should be one that %s %s, but %s (%s)", f.Line, f.Identity, want, f.Test, got, by)
}

// Test runs the document's tests and returns those that fail.
func (p *Policy) Test() []TestFailure {
	var failures []TestFailure
	for _, t := range p.tests {
		s := p.For(t.identity)
		for _, c := range t.checks {
			if d := c.ask(s); d.Allow != c.want {
				failures = append(failures, TestFailure{c.line, t.identity, c.text, c.want, d})
			}
		}
	}
	return failures
}

func (p *parser) tests(n *yaml.Node) {
	checks := 0
	p.list(n, "tests", testsMax, func(_ int, item *yaml.Node) {
		var t testCase
		before := len(p.faults)
		p.fields(item, "a test",
			field{"identity", func(n *yaml.Node) { p.testIdentity(n, &t.identity) }},
			field{"can", func(n *yaml.Node) { p.checks(n, "can", true, &t) }},
			field{"cannot", func(n *yaml.Node) { p.checks(n, "cannot", false, &t) }},
		)
		if len(p.faults) == before && (t.identity == "" || len(t.checks) == 0) {
			p.fault(item, "a test needs an identity, and can or cannot")
		}
		if checks += len(t.checks); checks > checksMax && checks-len(t.checks) <= checksMax {
			p.fault(item, "the document has more than %d lines of can and cannot", checksMax)
		}
		p.doc.tests = append(p.doc.tests, t)
	})
}

// testIdentity reads an identity without wildcards.
func (p *parser) testIdentity(n *yaml.Node, into *string) {
	s, ok := p.text(n, "identity")
	if !ok {
		return
	}
	id, err := parseIdentity(s)
	switch {
	case err != nil:
		p.fault(n, "%s", err)
	case !id.literal:
		p.fault(n, "a test needs one identity, without wildcard or capture")
	default:
		*into = s
	}
}

func (p *parser) checks(n *yaml.Node, what string, want bool, t *testCase) {
	p.list(n, what, checksMax, func(_ int, item *yaml.Node) {
		s, ok := p.text(item, "a line of "+what)
		if !ok {
			return
		}
		verb, resource, _ := strings.Cut(s, " ")
		v, err := ParseVerb(verb)
		if err == nil {
			var q question
			if q, err = parseQuestion(v, resource); err == nil {
				t.checks = append(t.checks, check{s, item.Line, want, q})
				return
			}
		}
		p.fault(item, "%s", err)
	})
}
