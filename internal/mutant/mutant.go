package mutant

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is one planted fault.
type Mutant struct {
	File    string // of the patch
	Fault   string // what is wrong with the program, in words
	Rows    string // of the test catalogue
	Package string // ./cluster
	Test    string // TestX, or TestX/sub
	Lane    string // that the test needs; "" = 1
	patch   []byte
}

// Load reads every patch of a folder, in order of their names.
func Load(dir string) ([]Mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var list []Mutant
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m.File = filepath.Base(name)
		list = append(list, m)
	}
	return list, nil
}

// parse reads the lines before the diff.
func parse(text []byte) (m Mutant, err error) {
	head, patch, ok := bytes.Cut(text, []byte("\ndiff --git "))
	if !ok {
		return m, fmt.Errorf("it has no line that begins with %q", "diff --git")
	}
	m.patch = append([]byte("diff --git "), patch...)
	for line := range strings.SplitSeq(strings.TrimSpace(string(head)), "\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Fault":
			m.Fault = value
		case "Rows":
			m.Rows = value
		case "Test":
			m.Package, m.Test, _ = strings.Cut(value, " ")
		case "Lane":
			m.Lane = value
		default:
			return m, fmt.Errorf("line %q: want Fault, Rows, Test or Lane", line)
		}
	}
	if m.Fault == "" || m.Rows == "" || !strings.HasPrefix(m.Package, "./") || !strings.HasPrefix(m.Test, "Test") {
		return m, fmt.Errorf("it must say Fault, Rows and Test (./package TestName): %+v", m)
	}
	return m, nil
}
