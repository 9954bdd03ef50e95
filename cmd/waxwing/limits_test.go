package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLimitsAreDocumented holds docs/limits.md to the configuration and to the tests: each key is there with its default, and
// each row names tests that exist.
func TestLimitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, defaults := testNames(t), map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.TrimSpace(cells[0]) == "key" {
			continue
		}
		if len(cells) != 6 {
			t.Errorf("not key, default, bound, metric, code, test: %s", line)
			continue
		}
		for i := range cells {
			if cells[i] = strings.TrimSpace(cells[i]); cells[i] == "" {
				t.Errorf("column %d is empty: %s", i+1, line)
			}
		}
		defaults[strings.Trim(cells[0], "`")] = cells[1]
		names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cells[5], -1)
		if len(names) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("there is no test %s", n[1])
			}
		}
	}
	c := newConfig()
	for i := range settings {
		s := &settings[i]
		if strings.HasPrefix(s.key, "limits.") && defaults[s.key] != readable(*s.number(c)) {
			t.Errorf("%s: the default is %s, the page says %q", s.key, readable(*s.number(c)), defaults[s.key])
		}
	}
}

// readable is a number as the page writes it.
func readable(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	case n >= 1000:
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return strconv.Itoa(n)
}

// testNames are the tests of the whole project.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(names) < 100 {
		t.Fatalf("%d tests found, %v", len(names), err)
	}
	return names
}

// TestConfigBytes reads a file as long as one may be, and one byte more.
func TestConfigBytes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "long.yaml")
	base := exampleConfig() + "#"
	for extra, want := range map[int]string{0: "", 1: "more than 1048576 bytes"} {
		if err := os.WriteFile(name, []byte(base+strings.Repeat("x", configBytesMax-len(base)+extra)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(name, func(string) string { return "" }, nil)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes beyond: %v", extra, err)
		}
	}
}
