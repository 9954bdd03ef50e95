package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

// desk is where a developer works: a folder for contexts, one for temporary files, and the program.
type desk struct {
	t       *testing.T
	dir     string
	program string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir(), program: self}
	if err := os.Mkdir(d.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) env() []string {
	return []string{asProgram + "=1", "WAXWING_CONFIG_DIR=" + d.path("config"), "TMPDIR=" + d.path("tmp")}
}

// command is a command of the desk, not yet started.
func (d *desk) command(name string, list ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.t.Context(), name, list...)
	cmd.Env, cmd.Dir = append(os.Environ(), d.env()...), d.dir
	return cmd
}

// run runs waxwing and gives back both outputs together, and the exit code.
func (d *desk) run(list ...string) (string, int) {
	d.t.Helper()
	return d.finish(d.command(d.program, list...))
}

func (d *desk) finish(cmd *exec.Cmd) (string, int) {
	d.t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must runs waxwing, which must succeed.
func (d *desk) must(list ...string) string {
	d.t.Helper()
	out, code := d.run(list...)
	if code != 0 {
		d.t.Fatalf("waxwing %s: exit code %d: %s", strings.Join(list, " "), code, out)
	}
	return out
}

// dev starts waxwing dev and returns the lines that it prints to paste.
func (d *desk) dev(list ...string) (*launch.Process, []string) {
	d.t.Helper()
	out, err := os.CreateTemp(d.dir, "dev-*.out")
	if err != nil {
		d.t.Fatal(err)
	}
	defer out.Close()
	p, err := launch.Start(d.t.Context(), launch.Options{Args: append([]string{"dev"}, list...), Env: d.env(), Dir: d.dir, Stdout: out})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(p.Kill)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		d.t.Fatal(err)
	}
	return p, strings.Split(strings.TrimSpace(string(text)), "\n")
}

// contexts are the names, the selected one first, and the servers of "dev".
func (d *desk) contexts() (names []string, dev string) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.path("config"), "contexts.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	var c contexts
	if err := json.Unmarshal(text, &c); err != nil {
		d.t.Fatal(err)
	}
	names = append(names, c.Current)
	for n := range c.Named {
		if n != c.Current {
			names = append(names, n)
		}
	}
	slices.Sort(names[1:])
	return names, strings.Join(c.Named["dev"].Servers, ",")
}

// TestDev pastes the two lines, and looks for what is left when dev has stopped.
func TestDev(t *testing.T) {
	d := newDesk(t)
	d.must("pki", "init", "prod", "--trust-domain", "prod.example")
	d.must("cert", "issue", "me", "--pki", "prod", "-o", "prod")
	d.must("context", "add", "prod", "-s", "prod.example:7420", "--cert", "prod/me.crt", "--key", "prod/me.key", "--ca", "prod/roots.crt")
	p, lines := d.dev()
	if len(lines) != 2 {
		t.Fatalf("printed %q, want two lines to paste", lines)
	}
	if names, server := d.contexts(); !slices.Equal(names, []string{"dev", "prod"}) || server != p.Ready.Client {
		t.Errorf("contexts %q, dev at %s, want dev selected, at %s", names, server, p.Ready.Client)
	}
	if out, code := d.finish(d.command("sh", "-c", lines[1])); code != 0 {
		t.Errorf("%s: exit code %d: %s", lines[1], code, out)
	}
	if out, code := d.finish(d.command("sh", "-c", lines[0]+" --from earliest -n 1")); code != 0 || !strings.Contains(out, "\nhello\n") {
		t.Errorf("%s: exit code %d: %s", lines[0], code, out)
	}
	if who := d.must("whoami"); !strings.Contains(who, "spiffe://dev.waxwing.local/client/me") || !strings.Contains(who, "may\tadmin (") {
		t.Errorf("whoami: %s", who)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if left, err := os.ReadDir(d.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if names, _ := d.contexts(); !slices.Equal(names, []string{"prod"}) {
		t.Errorf("contexts %q, want prod selected as before", names)
	}
}

// TestDevKeepsItsFolder kills dev -dir and starts it again, and starts a second one beside it.
func TestDevKeepsItsFolder(t *testing.T) {
	d := newDesk(t)
	p, _ := d.dev("--dir", "kept")
	d.must("pub", "greetings.en", "hello")
	roots, err := os.ReadFile(d.path("kept/pki/roots.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path("kept/policy.yaml"), []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := d.contexts()
	if out, code := d.run("dev", "--dir", "kept"); code != exitFailure || !strings.Contains(out, "another process uses it") {
		t.Errorf("a second broker on the folder: exit code %d: %s", code, out)
	}
	if now, server := d.contexts(); !slices.Equal(now, before) || server != p.Ready.Client {
		t.Errorf("the second broker changed the context: %q, %s", now, server)
	}
	p.Kill()
	again, _ := d.dev("--dir", "kept", "--listen", "localhost:0")
	if out := d.must("sub", "greetings.en", "--from", "earliest", "--stop-at-end", "-o", "raw"); out != "hello\n" {
		t.Errorf("after kill -9: %q", out)
	}
	if now, err := os.ReadFile(d.path("kept/pki/roots.crt")); err != nil || !slices.Equal(now, roots) {
		t.Errorf("the CA changed, %v", err)
	}
	if text, err := os.ReadFile(d.path("kept/policy.yaml")); err != nil || string(text) != "# mine\n" {
		t.Errorf("policy.yaml is %q, %v", text, err)
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if names, _ := d.contexts(); !slices.Equal(names, []string{"dev"}) {
		t.Errorf("contexts %q: dev should stay, its files do", names)
	}
	for _, listen := range []string{"0.0.0.0:0", "example.org:7420", ":7420", "7420"} {
		if out, code := d.run("dev", "--listen", listen); code != exitUsage {
			t.Errorf("--listen %s: exit code %d: %s", listen, code, out)
		}
	}
}

// TestDevNodes runs three brokers, kills the one that leads, and goes on without it; a second start on the folder brings
// it back with everything.
func TestDevNodes(t *testing.T) {
	d := newDesk(t)
	p, lines := d.dev("--dir", "kept", "--nodes", "3")
	if len(lines) != 2 {
		t.Fatalf("printed %q, want two lines to paste", lines)
	}
	names, servers := d.contexts()
	if !slices.Equal(names, []string{"dev"}) || len(strings.Split(servers, ",")) != 3 {
		t.Fatalf("contexts %q, dev at %s, want three servers", names, servers)
	}
	d.must("pub", "greetings.en", "hello")
	leader := regexp.MustCompile(`node\s+(dev-\d)`).FindStringSubmatch(d.must("whoami"))
	if leader == nil {
		t.Fatal("whoami names no node")
	}
	pids := devPIDs(p.Log())
	if len(pids) != 3 {
		t.Fatalf("three nodes are told, got %v: %s", pids, p.Log())
	}
	if err := syscall.Kill(pids[leader[1]], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.must("pub", "greetings.en", "again")
	if lane.Current() > 1 { // it takes 10 s
		minority(d, pids, leader[1])
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if !strings.Contains(p.Log(), "has ended: signal: killed; 2 of 3 go on") {
		t.Errorf("the end of a node is not told: %s", p.Log())
	}
	if out, code := d.run("dev", "--dir", "kept"); code != exitUsage || !strings.Contains(out, "holds several nodes") {
		t.Errorf("one node in the folder of three: exit code %d: %s", code, out)
	}
	p, _ = d.dev("--dir", "kept", "--nodes", "3")
	if _, now := d.contexts(); now != servers {
		t.Errorf("the nodes have moved from %s to %s", servers, now)
	}
	if out := d.must("sub", "greetings.en", "--from", "earliest", "-n", "2", "-o", "raw"); out != "hello\nagain\n" {
		t.Errorf("read %q", out)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// devPIDs are the process ids that dev tells, by node.
func devPIDs(log string) map[string]int {
	pids := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^node (dev-\d) on .*, pid (\d+)$`).FindAllStringSubmatch(log, -1) {
		if n, err := strconv.Atoi(m[2]); err == nil {
			pids[m[1]] = n
		}
	}
	return pids
}

// minority kills a second node; the one that is left says that it has no quorum.
func minority(d *desk, pids map[string]int, dead string) {
	d.t.Helper()
	for name, pid := range pids { // one of three is not enough
		if name != dead {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				d.t.Fatal(err)
			}
			break
		}
	}
	for tries := 0; ; tries++ { // the one that is left gives the others 10 s
		out, code := d.run("pub", "greetings.en", "never", "--timeout", "2s")
		if code == exitNoQuorum {
			break
		}
		if code == exitOK || tries == 50 {
			d.t.Fatalf("published to a minority: exit code %d: %s", code, out)
		}
	}
}
