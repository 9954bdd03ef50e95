package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// program runs waxwing as a process of its own, as an identity of the site that was issued, with more in its environment.
func (s *site) program(name string, env []string, list ...string) (stderr string, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], list...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), asProgram+"=1", "WAXWING_CONFIG_DIR="+s.path("config"), "WAXWING_CERT="+s.path(name+".crt"), "WAXWING_KEY="+s.path(name+".key"), "WAXWING_CA="+s.path("roots.crt"))
	if p := s.process(); p != nil {
		c.Env = append(c.Env, "WAXWING_SERVER="+p.Ready.Client)
	}
	c.Env = append(c.Env, env...)
	var words bytes.Buffer
	c.Stderr = &words
	err = c.Run()
	if ctx.Err() != nil {
		s.t.Fatalf("%v did not end", list)
	}
	return words.String(), err
}

// verifySnapshot reads a file and says of which index it is, and how many records it has.
func verifySnapshot(t *testing.T, name string) (index, records uint64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := cluster.VerifySnapshot(t.Context(), f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r.Head.Index, r.Contents.Records
}

// TestSaveFaults is the fault table of snapshot save: whatever fails or ends the program at whatever step, the file's name
// has what it had before or the whole new snapshot, and the next save works.
func TestSaveFaults(t *testing.T) {
	s := newSite(t)
	s.start()
	c := s.dial("ops")
	publish := func() {
		t.Helper()
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: make([]byte, 20_000)}); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	name := s.path("backup")
	if words, err := s.program("ops", nil, "snapshot", "save", name); err != nil {
		t.Fatal(err, words)
	}
	for _, point := range []string{"snapshot.create", "snapshot.write", "snapshot.sync", "snapshot.prove", "snapshot.rename", "snapshot.syncdir"} {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone, fault.CrashBefore, fault.CrashAfter} {
			t.Run(point+"="+string(action), func(t *testing.T) {
				if point != "snapshot.prove" && point != "snapshot.rename" {
					lane.Need(t, 2, "B-01 C-05")
				}
				old, before := verifySnapshot(t, name)
				publish()
				words, err := s.program("ops", []string{fault.Env + "=" + point + "=" + string(action)}, "snapshot", "save", "--force", name)
				if err == nil {
					t.Fatal("the fault was not met")
				}
				crash := action == fault.CrashBefore || action == fault.CrashAfter
				var exit *exec.ExitError
				if errors.As(err, &exit) && exit.Exited() == crash {
					t.Errorf("%v: %s", err, words)
				}
				index, records := verifySnapshot(t, name)
				renamed := point == "snapshot.syncdir" || point == "snapshot.rename" && (action == fault.ErrorDone || action == fault.CrashAfter)
				if whole := index > old && records == before+1; whole != renamed || !whole && (index != old || records != before) {
					t.Errorf("index %d, %d records; before it was %d, %d", index, records, old, before)
				}
				if _, err := os.Stat(name + ".tmp"); err == nil && !crash {
					t.Error("the temporary file was left")
				}
				if words, err := s.program("ops", nil, "snapshot", "save", "--force", name); err != nil {
					t.Error(err, words)
				}
				if _, records := verifySnapshot(t, name); records != before+1 {
					t.Errorf("%d records in the next snapshot, want %d", records, before+1)
				}
				if left, _ := filepath.Glob(s.path("backup*")); strings.Join(left, " ") != name {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

// TestB01Programs saves backups of a broker, a process of its own, while a client publishes to it; kills it, restores the last
// one, and starts another broker on it: the journal's records are there from the first on, with their bytes and their
// verified publisher, as many as the file says and at least those that were acknowledged before; and publishing goes on.
func TestB01Programs(t *testing.T) {
	s := newSite(t)
	s.start()
	c := s.dial("orders")
	s.issue(ca.Request{Name: "ops"})
	j := &journal{t: t, c: c, acked: make(chan int64, 1024), stop: make(chan struct{})}
	done := make(chan int64, 1)
	go func() { done <- j.publish() }()
	before := c.Welcome().Cluster
	var acked int64
	for range lane.Pick(1, 5, 20) {
		for until := acked + 3000; acked < until; { // three segments later
			select {
			case acked = <-j.acked:
			case <-t.Context().Done():
				t.Fatal("no acknowledgements any more")
			}
		}
		saved := make(chan error, 1)
		go func() {
			words, err := s.program("ops", nil, "snapshot", "save", "--force", s.path("backup"))
			if err != nil {
				err = fmt.Errorf("%w: %s", err, words)
			}
			saved <- err
		}()
		least := acked
		for waiting := true; waiting; {
			select {
			case <-j.acked:
				acked++
			case err := <-saved:
				if err != nil {
					t.Fatal(err)
				}
				waiting = false
			}
		}
		if _, records := verifySnapshot(t, s.path("backup")); records < uint64(least) {
			t.Errorf("%d records in the backup, %d were acknowledged before", records, least)
		}
	}
	_, records := verifySnapshot(t, s.path("backup"))
	for acked <= int64(records) { // it goes on after the backup
		acked = <-j.acked
	}
	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	published := <-done
	s.kill()
	if records >= uint64(published) {
		t.Errorf("%d records in the backup of %d: it was not taken under load", records, published)
	}
	if words, err := s.program("ops", nil, "snapshot", "restore", s.path("backup"), "--data-dir", s.path("restored"), "--node-id", "n1"); err != nil {
		t.Fatal(err, words)
	}
	s.start("WAXWING_NODE_DATA_DIR=" + s.path("restored"))
	reader := s.dial("billing")
	(&journal{t: t, c: reader}).verify(s, int64(records))
	if after := reader.Welcome().Cluster; after == before || after == "" {
		t.Errorf("cluster %q, was %q", after, before)
	}
	ack, err := reader.Publish(t.Context(), journalTopic, client.Record{Body: []byte("next")})
	if err != nil || ack.Offset != int64(records) {
		t.Errorf("publish behind the backup: %+v, %v", ack, err)
	}
	t.Logf("%d of %d records were in the last backup", records, published)
}
