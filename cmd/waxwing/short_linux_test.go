package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/powercut"
)

// shortRecords go through some segments of a MiB.
const shortRecords = 4000

// publishUntilEnd publishes until the broker ends or has taken so many records.
func (s *site) publishUntilEnd(j *ackJournal) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	p := s.process()
	go func() {
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	j.run(ctx, shortRecords)
	s.t.Logf("%d records acknowledged, then: %v", len(j.acked), j.last)
}

// TestD08Descriptors: a broker that may open no more files goes on or ends itself; nothing is lost or called damaged.
func TestD08Descriptors(t *testing.T) {
	lane.Need(t, 2, "D-08")
	s := newSite(t)
	s.start()
	j := &ackJournal{c: s.dial("orders")}
	j.run(t.Context(), 10)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process().PID()))
	if err != nil {
		t.Fatal(err)
	}
	most := unix.Rlimit{Cur: uint64(len(open)), Max: uint64(len(open)) + 64}
	if err := unix.Prlimit(s.process().PID(), unix.RLIMIT_NOFILE, &most, nil); err != nil {
		t.Skipf("D-08: the limit of another process cannot be set here: %v", err)
	}
	s.publishUntilEnd(j)
	if text := s.process().Log(); strings.Contains(text, "damaged") || strings.Contains(text, "goroutine ") {
		t.Errorf("log:\n%s", text)
	}
	s.kill()
	s.start()
	j.check(t)
	if away, err := filepath.Glob(s.path("data/storage/quarantine/*")); err != nil || len(away) > 0 {
		t.Errorf("set aside: %v, %v", away, err)
	}
}

// TestD08ReadOnly: the file system of the data folder turns read-only under a running broker, as ext4 does at an error of its own. The
// broker ends itself; once it can be written again, everything acknowledged is there.
func TestD08ReadOnly(t *testing.T) {
	lane.Need(t, 2, "D-08")
	if err := powercut.Missing(t.TempDir()); err != nil {
		t.Skipf("D-08: %v", err)
	}
	s := newSite(t)
	s.smallDisk("D-08", "ext4", 1<<30)
	if err := unix.Mount("", s.path("data"), "", unix.MS_REMOUNT|unix.MS_NOATIME, "errors=remount-ro"); err != nil {
		t.Skipf("D-08: remount: %v", err)
	}
	s.start()
	j := &ackJournal{c: s.dial("orders")}
	j.run(t.Context(), 1500)
	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(s.device()), "trigger_fs_error"), []byte("1"), 0o200); err != nil {
		t.Skipf("D-08: an error of the file system cannot be made here: %v", err)
	}
	s.publishUntilEnd(j)
	var exit *exec.ExitError
	if err := s.process().Wait(); !errors.As(err, &exit) || exit.ExitCode() == 0 {
		t.Fatalf("the broker ended with %v", err)
	}
	t.Logf("exit code %d", exit.ExitCode())
	if code := exit.ExitCode(); code != exitRaftLog && code != exitStorage && code != 2 {
		t.Errorf("exit code %d\n%s", code, s.process().Log())
	}
	if err := unix.Unmount(s.path("data"), 0); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("e2fsck", "-p", "-f", s.path("image")).CombinedOutput(); err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() > 1 { // 1: errors were corrected
			t.Fatalf("e2fsck: %v: %s", err, out)
		}
	}
	if _, err := powercut.Mount(s.path("image"), s.path("data")); err != nil {
		t.Fatal(err)
	}
	s.start()
	j.check(t)
}

// device is what the data folder is mounted from.
func (s *site) device() string {
	s.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == s.path("data") {
			return f[0]
		}
	}
	s.t.Fatalf("%s is no mount", s.path("data"))
	return ""
}

// memoryMost is less than a broker under load takes.
const memoryMost = 40 << 20

// TestD08Memory: a broker that gets no more memory may be killed for it; nothing is lost.
func TestD08Memory(t *testing.T) {
	lane.Need(t, 2, "D-08")
	group := filepath.Join("/sys/fs/cgroup/memory", "waxwing-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Skipf("D-08: no memory cgroup can be made here: %v", err)
	}
	s := newSite(t)
	t.Cleanup(func() {
		s.kill()
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(memoryMost)), 0o600); err != nil {
		t.Skipf("D-08: memory cannot be limited here: %v", err)
	}
	s.start()
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(s.process().PID())), 0o600); err != nil {
		t.Fatal(err)
	}
	j := &ackJournal{c: s.dial("orders")}
	s.publishUntilEnd(j)
	s.kill()
	s.start()
	j.check(t)
}
