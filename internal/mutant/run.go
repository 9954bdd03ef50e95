package mutant

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// Verdict is what a run of a mutant's test showed.
type Verdict string

// Verdicts. Only Red is good once the fault is planted, only Green before.
const (
	Green   Verdict = "green"
	Red     Verdict = "red"     // the test itself failed
	Broken  Verdict = "broken"  // it does not compile, or panicked, or ran out of time
	Skipped Verdict = "skipped" // the machine lacks what the test needs
	Missing Verdict = "missing" // there is no such test
)

// Run looks at the named test in the tree at root. The text is what go test said.
func (m *Mutant) Run(ctx context.Context, root string) (Verdict, string) {
	cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-count=1", "-timeout", "5m", "-v", "-run", m.pattern(), m.Package)
	cmd.Dir = root
	cmd.Env = os.Environ()
	if m.Lane != "" {
		cmd.Env = append(cmd.Env, "WAXWING_LANE="+m.Lane)
	} else {
		cmd.Env = append(cmd.Env, "WAXWING_LANE=1")
	}
	out, err := cmd.CombinedOutput()
	return m.judge(string(out), err), string(out)
}

// pattern matches the test and nothing else.
func (m *Mutant) pattern() string {
	parts := strings.Split(m.Test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

var (
	panicked = regexp.MustCompile(`(?m)^(panic:|fatal error:|SIG[A-Z]+:)`)
	unbuilt  = regexp.MustCompile(`(?m)\[(build|setup) failed\]$`)
)

// judge reads the output of go test.
func (m *Mutant) judge(out string, err error) Verdict {
	said := func(what string) bool {
		return regexp.MustCompile(`(?m)^\s*--- ` + what + `: ` + regexp.QuoteMeta(m.Test) + ` \(`).MatchString(out)
	}
	switch {
	case unbuilt.MatchString(out), panicked.MatchString(out):
		return Broken
	case said("SKIP"):
		return Skipped
	case said("FAIL") && err != nil:
		return Red
	case said("PASS") && err == nil:
		return Green
	case err == nil:
		return Missing
	}
	return Broken
}

// Hunt runs the mutant's test on the copy at root without the fault and with it. An error says why the mutant was not
// caught, with what the test said.
func (m *Mutant) Hunt(ctx context.Context, root string) error {
	if v, out := m.Run(ctx, root); v != Green {
		return fmt.Errorf("%s: without the fault %s %s is %s:\n%s", m.File, m.Package, m.Test, v, out)
	}
	if err := m.plant(ctx, root); err != nil {
		return err
	}
	v, out := m.Run(ctx, root)
	if err := m.heal(ctx, root); err != nil {
		return err
	}
	if v != Red {
		return fmt.Errorf("%s: with the fault %s %s is %s:\n%s", m.File, m.Package, m.Test, v, out)
	}
	return nil
}
