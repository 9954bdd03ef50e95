package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

// TestStopCodes: each way in which a broker ends itself has its exit code and one line in the log.
func TestStopCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{errors.New("raft log: append: input/output error"), 70},
		{fmt.Errorf("raft log: append: %w", syscall.EIO), 70},
		{fmt.Errorf("%w: seal segment 1: %w", storage.ErrFailed, syscall.EIO), 71},
		{fmt.Errorf("%w: a write of the raft log has taken 10s", cluster.ErrStalled), 72},
		{fmt.Errorf("%w: seal segment 1: %w", storage.ErrFailed, storage.ErrStuck), 73},
		{fmt.Errorf("raft log: read entry 5: %w: %w", cluster.ErrUnreadable, syscall.EIO), 74},
		{fmt.Errorf("raft log: read entry 5: %w", cluster.ErrCorrupt), 74},
		{fmt.Errorf("%w: seal segment 1: %w", storage.ErrFailed, storage.ErrCorrupt), 74},
		{fmt.Errorf("raft log: next file: %w", syscall.ENOSPC), 75},
	} {
		var log bytes.Buffer
		code := 0
		a := &app{exit: func(n int) { code = n }}
		a.failStop(slog.New(slog.NewTextHandler(&log, nil)))(c.err)
		if code != c.code || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), fmt.Sprint("exit_code=", c.code)) {
			t.Errorf("%v: exit code %d, want %d; log:\n%s", c.err, code, c.code, &log)
		}
	}
}

// TestFirstReasonCounts: what follows from a failure is not reported as another.
func TestFirstReasonCounts(t *testing.T) {
	var log bytes.Buffer
	var codes []int
	a := &app{exit: func(n int) { codes = append(codes, n) }}
	fail := a.failStop(slog.New(slog.NewTextHandler(&log, nil)))
	fail(storage.ErrFailed)
	fail(errors.New("apply entry 5: the log is closed"))
	if len(codes) != 1 || codes[0] != exitStorage || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("exit codes %v, log:\n%s", codes, &log)
	}
}

// TestFatalOfBadger: a library that ends the process through the standard logger ends the broker with its own exit code.
func TestFatalOfBadger(t *testing.T) {
	var log bytes.Buffer
	var failed error
	w := lastWord{slog.New(slog.NewTextHandler(&log, nil)), func(err error) {
		failed = err
		runtime.Goexit() // log.Fatal would go on to os.Exit
	}}
	std := stdlog.New(w, "", 0)
	std.Print("only a word")
	if failed != nil || !strings.Contains(log.String(), "only a word") {
		t.Fatalf("%v, log %q", failed, &log)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		std.Fatalf("%+v", errors.New("while opening file: too many open files"))
	}()
	<-done
	if r := reasonOf(failed); r.code != exitStorage || !strings.Contains(failed.Error(), "too many open files") {
		t.Errorf("code %d, %v", r.code, failed)
	}
}

// TestStopsWithoutLog: a log that nobody reads does not keep a broker alive.
func TestStopsWithoutLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		code := make(chan int, 2)
		a := &app{exit: func(n int) { code <- n }}
		go a.failStop(slog.New(slog.NewTextHandler(w, nil)))(errors.New("failed"))
		time.Sleep(lastWords)
		if got := <-code; got != exitRaftLog {
			t.Errorf("exit code %d", got)
		}
		r.Close()
	})
}

// TestStartFaults: a start that the disk prevents ends with the code of the disk's fault, any other as before.
func TestStartFaults(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{fmt.Errorf("open storage: %w", storage.ErrCorrupt), 74},
		{fmt.Errorf("open group: %w", cluster.ErrCorrupt), 74},
		{fmt.Errorf("open group: raft log: %w", syscall.EIO), 70},
		{fmt.Errorf("open group: raft log: %w: %w", cluster.ErrUnreadable, syscall.EIO), 74},
		{fmt.Errorf("open storage: %w: new segment 1: %w", storage.ErrFailed, syscall.EIO), 71},
		{fmt.Errorf("open storage: %w", syscall.ENOSPC), 75},
		{fmt.Errorf("data folder: %w", syscall.EROFS), 70},
		{usage("node.data_dir: %w", syscall.EROFS), 2},
		{errors.New("another process uses it"), 1},
	} {
		if code := exitCode(t.Context(), startFault(c.err)); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.code)
		}
	}
}
