package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// TestMain lets the test binary be the program: for children that a test or the program itself
// starts (with asProgram in the environment), and as "waxwing" in test scripts.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if err := fault.ArmFromEnv(); err != nil {
			panic(err)
		}
		program()
		return
	}
	if filepath.Base(os.Args[0]) != "waxwing" { // not a command of a script, which has an environment of its own
		for key, value := range patience {
			os.Setenv(key, value)
		}
		os.Setenv("GORACE", noSleep)
	}
	testscript.Main(m, map[string]func(){"waxwing": program})
}

// patience is what brokers and commands of tests have, where nothing else is said: how fast a machine or its disk is, is not
// what they are about.
var patience = map[string]string{"WAXWING_STORAGE_STALL_REJECT": "5m", "WAXWING_STORAGE_STALL_END": "5m", "WAXWING_TIMEOUT": "2m"}

// noSleep is what children have as GORACE: a program with the race detector sleeps a second at its end otherwise.
const noSleep = "atexit_sleep_ms=0"

// asProgram in the environment makes the test binary run as waxwing.
const asProgram = "WAXWING_TEST_PROGRAM"

// program is main for tests. Children of it are the program again.
func program() {
	os.Setenv(asProgram, "1")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, exit: os.Exit}
	os.Exit(run(ctx, a, os.Args[1:]))
}
