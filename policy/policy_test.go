package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/policy"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata")

// scenario is a file of testdata: comment, a document, and one line per expectation.
type scenario struct {
	path, head, doc, mark, want string
}

func readScenario(t *testing.T, path, mark string) scenario {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(b), "-- policy --\n")
	doc, want, ok2 := strings.Cut(rest, mark+"\n")
	if !ok1 || !ok2 {
		t.Fatalf("%s has no policy or no %s", path, mark)
	}
	return scenario{path, head, doc, mark, want}
}

// compare holds got against the file, or writes it there with -update.
func (s scenario) compare(t *testing.T, got string) {
	t.Helper()
	if *update {
		text := s.head + "-- policy --\n" + s.doc + s.mark + "\n" + got
		if err := os.WriteFile(s.path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(s.want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", s.path, diff)
	}
}

func scenarios(t *testing.T, folder string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios in testdata/%s: %v", folder, err)
	}
	return paths
}

// TestDecisions runs the decision tables: identity, verb, resource => decision.
func TestDecisions(t *testing.T) {
	for _, path := range scenarios(t, "decide") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s := readScenario(t, path, "-- decide --")
			p, err := policy.Compile([]byte(s.doc), 9)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range p.Test() {
				t.Error(f)
			}
			var got strings.Builder
			for line := range strings.Lines(s.want) {
				question, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
				fmt.Fprintln(&got, strings.TrimRight(question+" => "+answer(t, p, question), " "))
			}
			s.compare(t, got.String())
		})
	}
}

// answer decides one question of a table.
func answer(t *testing.T, p *policy.Policy, question string) string {
	t.Helper()
	f := strings.Fields(question)
	if len(f) < 2 {
		t.Fatalf("not identity, verb and resource: %q", question)
	}
	v, err := policy.ParseVerb(f[1])
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.For(f[0]).Explain(v, strings.Join(f[2:], " "))
	if err != nil {
		return "error"
	}
	if d.Version != p.Version() || d.Reason == "" {
		t.Errorf("%s: decision without version or reason: %+v", question, d)
	}
	word := "deny"
	if d.Allow {
		word = "allow"
	}
	if d.Rule == "" {
		return word
	}
	return fmt.Sprintf("%s %s line %d", word, d.Rule, d.Line)
}

// TestErrors runs the documents that do not compile: every fault with its line.
func TestErrors(t *testing.T) {
	for _, path := range scenarios(t, "errors") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s := readScenario(t, path, "-- errors --")
			p, err := policy.Compile([]byte(s.doc), 1)
			if err == nil || p != nil {
				t.Fatalf("compiled: %v, %v", p, err)
			}
			s.compare(t, err.Error()+"\n")
		})
	}
}

// scenarioDocument is the document of a scenario.
func scenarioDocument(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "-- policy --\n")
	doc, _, ok := strings.Cut(rest, "\n-- ")
	if !ok {
		t.Fatalf("%s has no document", path)
	}
	return doc
}
