package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, exit: os.Exit}
	os.Exit(run(ctx, a, os.Args[1:]))
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	return a.report(ctx, root.ExecuteContext(ctx))
}

// app is what every command shares: where it reads and writes, and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	exit           func(code int) // ends the process at once: only for fail-stop

	flags flags
}

// flags are the global flags.
type flags struct {
	context    string
	servers    []string
	cert       string
	key        string
	ca         string
	serverName string
	output     string
	timeout    string
	color      string
	quiet      bool
	verbose    bool
	noInput    bool
	yes        bool
}
