package main

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

// stopReason is a way in which a broker ends itself.
type stopReason struct {
	code int
	text string // the log line
}

// reasonOf sorts failures of the log, the message store and the disk; the last one is what is left.
func reasonOf(err error) stopReason {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return stopReason{exitFull, "the node ends itself: the disk is full; free space and start it again"}
	case errors.Is(err, cluster.ErrStalled):
		return stopReason{exitStalled, "the node ends itself: the disk hangs; look at the disk before you start it again"}
	case errors.Is(err, storage.ErrStuck):
		return stopReason{exitStuck, "the node ends itself: a database does not close; look at the disk before you start it again"}
	case errors.Is(err, cluster.ErrCorrupt), errors.Is(err, storage.ErrCorrupt), errors.Is(err, cluster.ErrUnreadable):
		return stopReason{exitUnreadable, "the node ends itself: what is on the disk is damaged or cannot be read; restore the data folder or replace the disk"}
	case errors.Is(err, storage.ErrFailed):
		return stopReason{exitStorage, "the node ends itself: writing a segment failed; a start makes it again from the raft log"}
	}
	return stopReason{exitRaftLog, "the node ends itself: the raft log failed, and what is on disk can no longer be trusted to follow what is in memory; a start reads it again"}
}

// lastWords is how long the log line of a fail-stop may take: whoever reads the log may hang as well.
const lastWords = 2 * time.Second

// failStop ends the process at once: after a failed fsync nothing may be acknowledged, and a
// graceful stop could hang on the very disk that failed.
func (a *app) failStop(log *slog.Logger) func(error) {
	var first sync.Once // the others wait for the end: what they met may be what came of it
	return func(err error) {
		first.Do(func() {
			r := reasonOf(err)
			anyway := time.AfterFunc(lastWords, func() { a.exit(r.code) })
			log.Error(r.text, "error", err, "exit_code", r.code)
			anyway.Stop()
			a.exit(r.code)
		})
	}
}

// lastWord is the output of the standard logger in a broker. Badger ends the process through it (log.Fatal) where it does not
// know what else to do; then the broker ends like after any other failure of the message store: with a line and an exit code.
type lastWord struct {
	log  *slog.Logger
	fail func(error)
}

func (w lastWord) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	if isFatal() {
		w.fail(fmt.Errorf("%w: %s", storage.ErrFailed, text))
	} else {
		w.log.Warn(text)
	}
	return len(b), nil
}

// isFatal says whether log.Fatal is among the callers.
func isFatal() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "log.Fatal") || strings.HasPrefix(f.Function, "log.(*Logger).Fatal") {
			return true
		}
		if !more {
			return false
		}
	}
}

// startFault gives an error that kept a node from starting its exit code, if the disk is at fault.
func startFault(err error) error {
	var known *exitError
	if err == nil || errors.As(err, &known) {
		return err
	}
	if errors.Is(err, cluster.ErrRemoved) {
		return &exitError{exitRemoved, err}
	}
	switch r := reasonOf(err); {
	case r.code != exitRaftLog:
		return &exitError{r.code, err}
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS), errors.Is(err, cluster.ErrFailed):
		return &exitError{exitRaftLog, err}
	}
	return err
}
