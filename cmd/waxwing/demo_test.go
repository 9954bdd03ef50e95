package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/identity/ca"
)

// runDemo runs the demo with planted faults, in a temporary folder that must be empty afterwards.
func runDemo(t *testing.T, faults demoFaults) (string, error) {
	t.Helper()
	t.Setenv(asProgram, "1") // the children are this test binary
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, env: os.Getenv, exit: func(int) {}}
	err := a.demo(t.Context(), faults)
	left, globErr := filepath.Glob(filepath.Join(os.TempDir(), "waxwing-demo-*"))
	if globErr != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, globErr)
	}
	return out.String(), err
}

func TestDemo(t *testing.T) {
	out, err := runDemo(t, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range demoSteps {
		if !strings.Contains(out, s.title) {
			t.Errorf("step %s was not shown", s.name)
		}
	}
}

// TestDemoSeesFaults plants a fault in each step: the demo must fail in that very step.
func TestDemoSeesFaults(t *testing.T) {
	replace := func(d *demo, name string, from *ca.Authority, request ca.Request) {
		if err := d.issue(from, request, ""); err != nil {
			t.Error(err)
		}
	}
	faults := map[string]func(*demo){
		"certificates": func(d *demo) {
			replace(d, "billing", d.authority, ca.Request{Name: "billing", ID: "spiffe://demo.waxwing.local/client/other"})
		},
		"start":    func(d *demo) { os.Remove(d.file("policy.yaml")) },
		"publish":  func(d *demo) { d.orders.LastOffset-- },
		"read":     func(d *demo) { d.billing.Checksum = "of other bytes" },
		"intruder": func(d *demo) { d.intruder = "orders" },
		"stranger": func(d *demo) { replace(d, "orders", d.authority, ca.Request{Name: "orders"}); d.moveStranger(t) },
		"resume":   func(d *demo) { d.noResume = true },
		"kill":     func(d *demo) { os.RemoveAll(d.file("data")) },
	}
	if len(faults) != len(demoSteps) {
		t.Fatalf("%d faults for %d steps", len(faults), len(demoSteps))
	}
	for _, s := range demoSteps {
		t.Run(s.name, func(t *testing.T) {
			out, err := runDemo(t, demoFaults{s.name: faults[s.name]})
			if err == nil {
				t.Fatalf("the demo did not notice:\n%s", out)
			}
			if !strings.Contains(err.Error(), "("+s.name+")") {
				t.Errorf("failed elsewhere: %v", err)
			}
		})
	}
}

// moveStranger gives the stranger a certificate of the broker's own CA.
func (d *demo) moveStranger(t *testing.T) {
	for _, ext := range []string{".crt", ".key"} {
		text, err := os.ReadFile(d.file("orders" + ext))
		if err == nil {
			err = os.WriteFile(filepath.Join(d.dir, d.stranger, "orders"+ext), text, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
