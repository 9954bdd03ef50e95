package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/launch"
)

// TestDocumentedCommands runs every command line of docs/cli.md, from the first to the last, as it stands there but for
// the words that stand for something. The exit code must be the one that the page leads to expect.
func TestDocumentedCommands(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWalk(t)
	w.write("policy.yaml", regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(page))[1])
	w.write("app.log", "a line\nanother\n")
	w.write("order.json", `{"total":3}`)
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(string(page), -1) {
		w.step(m[1])
		ran++
	}
	if ran < 30 {
		t.Errorf("only %d commands found", ran)
	}
}

// walk goes through the commands of a page.
type walk struct {
	*desk
	broker *launch.Process
}

func newWalk(t *testing.T) *walk {
	w := &walk{desk: newDesk(t)}
	if err := os.Mkdir(w.path("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.program, w.path("bin/waxwing")); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *walk) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// step runs one line.
func (w *walk) step(line string) {
	w.t.Helper()
	switch {
	case strings.HasPrefix(line, "waxwing serve "):
		w.serve()
		return
	case strings.HasPrefix(line, "waxwing policy reset "), strings.HasPrefix(line, "waxwing storage verify /"): // on a stopped node
		if err := w.broker.Stop(w.t.Context()); err != nil {
			w.t.Errorf("stop: %v", err)
		}
		defer w.serve()
	}
	cmd := w.command("sh", "-c", w.filled(line))
	cmd.Env = append(cmd.Env, "PATH="+w.path("bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if w.broker != nil {
		cmd.Env = append(cmd.Env, "WAXWING_SERVER="+w.broker.Ready.Client) // the port is another one after each start
	}
	out, code := w.finish(cmd)
	if want := expected(line); code != want {
		w.t.Errorf("%s\nexit code %d, want %d: %s", line, code, want, out)
	}
	if strings.Contains(line, "> waxwing.yaml") {
		w.fillIn()
	}
}

// filled puts real values where the page has words for them.
func (w *walk) filled(line string) string {
	server := ""
	if w.broker != nil {
		server = w.broker.Ready.Client
	}
	line = strings.NewReplacer("localhost:7420", server, "tail -f ", "cat ", " [--expect VERSION] [--force]", "", "DATA", "data", "/var/lib/waxwing", "data",
		"HASH", strings.Repeat("ab", 32), "55c3ef43...", "55c3ef43", "CN=...", "CN=x", "| age -r KEY ", "").Replace(line)
	if strings.Contains(line, "policy reset") {
		command, comment, _ := strings.Cut(line, "#")
		line = command + " -y #" + comment // nobody is there to answer
	}
	return line
}

// expected is the exit code that the page speaks of.
func expected(line string) int {
	if strings.HasPrefix(line, "waxwing pub payments") || strings.HasPrefix(line, "waxwing policy explain") {
		return exitDenied
	}
	return exitOK
}

// fillIn fills in the files of the example, as the page says.
func (w *walk) fillIn() {
	w.t.Helper()
	text, err := os.ReadFile(w.path("waxwing.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("waxwing.yaml", strings.NewReplacer("/var/lib/waxwing", "data", "/etc/waxwing/node-1", "certs/node-1", "/etc/waxwing/roots.crt", "pki/roots.crt", "# file: /etc/waxwing/policy.yaml", "file: policy.yaml",
		"# client: :7420", "client: 127.0.0.1:0", "# peer: :7421", "peer: 127.0.0.1:0", "# https: :7422", "https: 127.0.0.1:0").Replace(string(text)))
}

// serve starts the configured broker.
func (w *walk) serve() {
	w.t.Helper()
	p, err := launch.Start(w.t.Context(), launch.Options{Args: []string{"serve", "-c", "waxwing.yaml"}, Env: w.env(), Dir: w.dir})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Kill)
	w.broker = p
}

// TestReadmeCommands runs the quick start of the README: with dev, and with certificates of one's own.
func TestReadmeCommands(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWalk(t)
	w.write("policy.yaml", "roles: {}\n")
	var dev *launch.Process
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^(.*\./waxwing .*)$`).FindAllStringSubmatch(string(page), -1) {
		line := strings.ReplaceAll(m[1], "./waxwing", "waxwing")
		switch {
		case strings.HasPrefix(line, "waxwing dev"):
			w.broker, _ = w.dev()
			dev = w.broker
			w.must("pub", "greetings.first", "x")
		case strings.HasPrefix(line, "waxwing snapshot save"):
			w.broker = dev // of which the context is; the other one has a policy that lets nobody in
			w.step(line)
		case strings.HasPrefix(line, "waxwing sub"):
			command, _, _ := strings.Cut(line, "#")
			w.step(command + " --from earliest -n 1")
		default:
			w.step(line)
		}
		ran++
	}
	if ran < 10 {
		t.Errorf("only %d commands found", ran)
	}
}
