package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Exit codes. They are part of the command line's promise: docs/cli.md.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2 // usage or configuration
	exitNotFound   = 3
	exitDenied     = 4
	exitConnect    = 5 // connection or TLS
	exitTimeout    = 6 // timeout, or nothing received
	exitNoQuorum   = 7
	exitRaftLog    = 70 // a broker ended itself: an error of the raft log, or its fsync
	exitStorage    = 71 // the same: an error of a segment, or its fsync
	exitStalled    = 72 // the same: a write of the raft log took over 10 s
	exitStuck      = 73 // the same: a database did not close within 30 s
	exitUnreadable = 74 // a broker ended itself or did not start: data is damaged or cannot be read
	exitFull       = 75 // the same: the disk is full
	exitRemoved    = 76 // a broker ended itself or did not start: its node was removed from the cluster
	exitInterrupt  = 130
)

// exitError carries the exit code of an error.
type exitError struct {
	code int
	err  error // nil: nothing more is to be said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report prints an error and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	code := exitCode(ctx, err)
	var silent *exitError
	if err == nil || errors.As(err, &silent) && silent.err == nil {
		return code
	}
	if code == exitInterrupt {
		fmt.Fprintln(a.stderr, "waxwing: interrupted")
		return code
	}
	fmt.Fprintf(a.stderr, "waxwing: %v\n", err)
	return code
}

// exitCode is the one mapping of errors to exit codes.
func exitCode(ctx context.Context, err error) int {
	var (
		known   *exitError
		refused *client.RefusedError
		tls     *client.TLSError
		connect *client.ConnectError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &known):
		return known.code
	case ctx.Err() != nil:
		return exitInterrupt
	case errors.Is(err, client.ErrOptions):
		return exitUsage
	case errors.As(err, &refused):
		return refusedCode(refused)
	case errors.Is(err, client.ErrDenied):
		return exitDenied
	case errors.Is(err, client.ErrNotFound):
		return exitNotFound
	case errors.Is(err, client.ErrNoQuorum):
		return exitNoQuorum
	case errors.As(err, &tls), errors.As(err, &connect):
		return exitConnect
	case errors.Is(err, client.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailure
}

// refusedCode tells identities without rights from other refusals.
func refusedCode(e *client.RefusedError) int {
	switch e.Code {
	case protocol.CodeNoQuorum:
		return exitNoQuorum
	case protocol.CodeRevoked, protocol.CodeDenied, protocol.CodeIdentity:
		return exitDenied
	}
	return exitConnect
}
