package mutant_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/mutant"
)

const root = "../.."

func load(t *testing.T) []mutant.Mutant {
	t.Helper()
	list, err := mutant.Load(filepath.Join(root, "testdata", "mutants"))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 15 {
		t.Fatalf("%d mutants, want 15 and more", len(list))
	}
	return list
}

// TestS03PatchesApply: every planted fault still fits the code, and names a test that exists.
func TestS03PatchesApply(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skipf("S-03: this is not a working copy of git: %v", err)
	}
	for _, m := range load(t) {
		if err := m.Applies(t.Context(), root); err != nil {
			t.Errorf("make the patch anew: %v", err)
		}
		name, _, _ := strings.Cut(m.Test, "/")
		if !inPackage(t, m.Package, "func "+name+"(t *testing.T)") {
			t.Errorf("%s: %s has no %s", m.File, m.Package, m.Test)
		}
	}
}

func inPackage(t *testing.T, dir, text string) bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), text) {
			return true
		}
	}
	return false
}

// TestS03Mutants plants each fault in a copy and demands that its test turns red. `make mutants` runs it and shows the
// table.
func TestS03Mutants(t *testing.T) {
	lane.Need(t, 3, "S-03")
	list := load(t)
	dir := t.TempDir()
	if err := mutant.Copy(t.Context(), root, dir); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, m := range list {
		t.Run(strings.TrimSuffix(m.File, ".patch"), func(t *testing.T) {
			result := "red"
			if err := m.Hunt(t.Context(), dir); err != nil {
				result = "NOT CAUGHT"
				t.Error(err)
			}
			fmt.Fprintf(&table, "%-10s  %-12s  %-58s  %s\n", result, m.Rows, m.Package+" "+m.Test, m.Fault)
		})
	}
	t.Logf("the test that answers for each planted fault:\n%s", table.String())
}

// TestJudge: only a failure of the named test counts.
func TestJudge(t *testing.T) {
	failed := fmt.Errorf("exit status 1")
	m := mutant.Mutant{Package: "./x", Test: "TestX/case"}
	for name, c := range map[string]struct {
		out  string
		err  error
		want mutant.Verdict
	}{
		"passes":         {"--- PASS: TestX (0.00s)\n    --- PASS: TestX/case (0.00s)\nok\n", nil, mutant.Green},
		"fails":          {"--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/case (0.00s)\nFAIL\n", failed, mutant.Red},
		"another fails":  {"--- FAIL: TestX (0.00s)\n    --- FAIL: TestX/cases (0.00s)\nFAIL\n", failed, mutant.Broken},
		"panics":         {"    --- FAIL: TestX/case (0.00s)\npanic: oh\nFAIL\n", failed, mutant.Broken},
		"does not build": {"FAIL\tx [build failed]\nFAIL\n", failed, mutant.Broken},
		"is not there":   {"testing: warning: no tests to run\nPASS\n", nil, mutant.Missing},
		"is skipped":     {"    --- SKIP: TestX/case (0.00s)\nok\n", nil, mutant.Skipped},
	} {
		if got := m.Judge(c.out, c.err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
