package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxwing-mq/waxwing/identity/ca"
)

// TestScripts runs the command lines of testdata/script as a user would. Beside testscript's commands there are
// "broker [POLICY]", which starts a broker as a process of its own and points the environment at it; "broker-on DIR", which starts it on another data folder; "certificate NAME", which
// makes one of its CA; "as NAME", which uses it; "kill-broker"; and "mode", which compares permissions.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("WAXWING_CONFIG_DIR", filepath.Join(e.WorkDir, "config"))
			e.Setenv("TMPDIR", e.WorkDir)
			e.Setenv("WAXWING_TIMEOUT", patience["WAXWING_TIMEOUT"])
			e.Setenv("GORACE", noSleep)
			e.Values[siteKey{}] = newSite(t)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"broker":      scriptBroker,
			"certificate": scriptCertificate,
			"as":          scriptAs,
			"kill-broker": func(ts *testscript.TestScript, _ bool, _ []string) { siteOf(ts).kill() },
			"broker-on":   scriptBrokerOn,
			"code":        scriptCode,
			"mode":        scriptMode,
		},
	})
}

// siteKey finds a script's site.
type siteKey struct{}

func siteOf(ts *testscript.TestScript) *site { return ts.Value(siteKey{}).(*site) }

// scriptBroker starts the script's broker and issues "me".
func scriptBroker(ts *testscript.TestScript, _ bool, list []string) {
	s := siteOf(ts)
	if len(list) == 1 {
		text, err := os.ReadFile(ts.MkAbs(list[0]))
		ts.Check(err)
		s.write("policy.yaml", text)
	}
	s.start()
	brokerRuns(ts, s)
	scriptCertificate(ts, false, []string{"me"})
	scriptAs(ts, false, []string{"me"})
}

// brokerRuns points the environment at the broker.
func brokerRuns(ts *testscript.TestScript, s *site) {
	r := s.process().Ready
	ts.Setenv("WAXWING_SERVER", r.Client)
	ts.Setenv("PEER", r.Peer)
	ts.Setenv("HTTPS", r.HTTPS)
	ts.Setenv("SITE", s.dir)
}

// scriptBrokerOn starts the script's broker on another data folder: broker-on DIR.
func scriptBrokerOn(ts *testscript.TestScript, neg bool, list []string) {
	if neg || len(list) != 1 {
		ts.Fatalf("usage: broker-on DIR")
	}
	s := siteOf(ts)
	s.start("WAXWING_NODE_DATA_DIR=" + ts.MkAbs(list[0]))
	brokerRuns(ts, s)
}

func scriptCertificate(ts *testscript.TestScript, _ bool, list []string) {
	siteOf(ts).issue(ca.Request{Name: list[0]})
}

func scriptAs(ts *testscript.TestScript, _ bool, list []string) {
	s := siteOf(ts)
	ts.Setenv("WAXWING_CERT", s.path(list[0]+".crt"))
	ts.Setenv("WAXWING_KEY", s.path(list[0]+".key"))
	ts.Setenv("WAXWING_CA", s.path("roots.crt"))
}

// scriptCode runs the program and compares its exit code: code N waxwing ...
func scriptCode(ts *testscript.TestScript, neg bool, list []string) {
	if neg || len(list) < 2 {
		ts.Fatalf("usage: code N ARG...")
	}
	err := ts.Exec(list[1], list[2:]...)
	got := "0"
	if err != nil {
		got = exitOf(err)
	}
	if got != list[0] {
		ts.Fatalf("exit code %s, want %s", got, list[0])
	}
}

// scriptMode compares a file's permissions: mode 0600 FILE.
func scriptMode(ts *testscript.TestScript, neg bool, list []string) {
	if neg || len(list) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	info, err := os.Stat(ts.MkAbs(list[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%#o", info.Mode().Perm()); got != list[0] {
		ts.Fatalf("%s has mode %s, want %s", list[1], got, list[0])
	}
}

// exitOf is the exit code of a program that failed.
func exitOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}
