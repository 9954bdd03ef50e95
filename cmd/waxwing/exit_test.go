package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestExitCodes maps errors, each plain and wrapped. The scripts see most of the codes from real brokers.
func TestExitCodes(t *testing.T) {
	rejected := func(c protocol.Code) error { return &client.RejectedError{Op: "publish", Resource: "t", Code: c} }
	refused := func(c protocol.Code) error { return &client.RefusedError{Server: "s", Code: c} }
	for want, list := range map[int][]error{
		exitOK:       {nil},
		exitFailure:  {errors.New("x"), rejected(protocol.CodeTooLarge), rejected(protocol.CodeConflict), rejected(protocol.CodeLockout), rejected(protocol.CodeInternal)},
		exitUsage:    {usage("x"), client.ErrOptions},
		exitNotFound: {rejected(protocol.CodeNotFound)},
		exitDenied:   {&client.DeniedError{Op: "publish"}, rejected(protocol.CodeDenied), refused(protocol.CodeRevoked), refused(protocol.CodeIdentity), refused(protocol.CodeDenied)},
		exitConnect:  {&client.TLSError{What: "x"}, &client.ConnectError{Server: "s", Err: io.EOF}, &client.ConnectError{Server: "s", Err: context.DeadlineExceeded}, refused(protocol.CodeLimit), refused(protocol.CodeUnsupported)},
		exitTimeout:  {client.ErrTimeout, context.DeadlineExceeded, rejected(protocol.CodeTimeout), rejected(protocol.CodeNotCaughtUp), &client.UnknownOutcomeError{Op: "publish", Err: client.ErrTimeout}},
		exitNoQuorum: {client.ErrNoQuorum, rejected(protocol.CodeNoQuorum), rejected(protocol.CodeNotLeader), refused(protocol.CodeNoQuorum), &client.UnknownOutcomeError{Op: "publish", Err: client.ErrNoQuorum}},
		exitStorage:  {&exitError{exitStorage, nil}},
	} {
		for _, err := range list {
			if got := exitCode(t.Context(), err); got != want {
				t.Errorf("%v: exit code %d, want %d", err, got, want)
			}
			if err == nil {
				continue
			}
			if got := exitCode(t.Context(), fmt.Errorf("do: %w", err)); got != want {
				t.Errorf("wrapped %v: exit code %d, want %d", err, got, want)
			}
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if got := exitCode(stopped, context.Canceled); got != exitInterrupt {
		t.Errorf("interrupted: exit code %d", got)
	}
}

// TestExitCodesAreDocumented looks for each code in the page and in the help.
func TestExitCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	a := &app{stdin: strings.NewReader(""), stdout: &help, stderr: io.Discard, env: func(string) string { return "" }}
	if code := run(t.Context(), a, []string{"--help"}); code != exitOK {
		t.Fatalf("help: exit code %d", code)
	}
	for _, code := range []int{exitOK, exitFailure, exitUsage, exitNotFound, exitDenied, exitConnect, exitTimeout, exitNoQuorum, exitRaftLog, exitStorage, exitStalled, exitStuck, exitUnreadable, exitFull, exitRemoved, exitInterrupt} {
		if !strings.Contains(string(page), fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("docs/cli.md says nothing of exit code %d", code)
		}
		if ownEnd := code >= exitRaftLog && code <= exitRemoved; ownEnd && strings.Contains(help.String(), "70 to 76") {
			continue
		}
		if !regexp.MustCompile(fmt.Sprintf(`(?m)(^| )%d [a-z]`, code)).MatchString(help.String()) {
			t.Errorf("the help says nothing of exit code %d", code)
		}
	}
}

// TestInterrupted interrupts pub while it waits for more input, and sub while it waits for records: what was
// acknowledged or shown stays, and the exit code says what happened.
func TestInterrupted(t *testing.T) {
	d := newDesk(t)
	d.dev()
	for name, list := range map[string][]string{
		"pub": {"pub", "t", "--lines", "-o", "json"},
		"sub": {"sub", "t", "--from", "earliest", "-o", "jsonl"},
	} {
		if name == "sub" {
			d.must("pub", "t", "one")
		}
		cmd := d.command(d.program, list...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, "one\n"); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n') // comes while the input is still open
		if err != nil || !strings.Contains(line, `"topic":"t"`) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupt {
			t.Errorf("%s: exit code %d, %v", name, cmd.ProcessState.ExitCode(), err)
		}
	}
}
