package policy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/policy"
)

// TestDocumentation: the examples of docs/policy.md compile and pass their own tests.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(page), "```yaml\n")[1:]
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		doc, _, _ := strings.Cut(e, "```")
		p, err := policy.Compile([]byte(doc), 1)
		if err != nil {
			t.Errorf("%v in\n%s", err, doc)
			continue
		}
		for _, f := range p.Test() {
			t.Error(f)
		}
	}
	locked := compile(t, []byte("bindings: [{identity: \"spiffe://x/{name}\", deny: [{verbs: [publish], topics: [\"locked.{name}\"]}]}, {identity: \"spiffe://x/*\", allow: [{verbs: [publish], topics: [\">\"]}]}]"))
	if d := locked.For("spiffe://x/a.b").Decide(policy.Publish, "locked.other"); d.Allow {
		t.Errorf("the page says that an unsafe capture widens a deny: %+v", d)
	}
}
