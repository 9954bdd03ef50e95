package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// TestD03DamagedNodeOfThree stops one of three processes, damages files of its sealed segments, and starts it again: it repairs
// them from the others and says so, `storage status` shows them sealed, and every record is read from that node.
func TestD03DamagedNodeOfThree(t *testing.T) {
	lane.Need(t, 2, "D-03")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	s.issue(ca.Request{Name: "ops"})
	c, records := s.dial("orders"), int64(0)
	for round := range 3 { // a cut for each
		var inFlight []*client.Future
		for range 1200 {
			inFlight = append(inFlight, c.PublishAsync(t.Context(), journalTopic, client.Record{Body: journalBody(records)}))
			records++
		}
		for _, f := range inFlight {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.awaitSealed("n1", round+1)
	}
	node := threeNames[(slices.Index(threeNames, s.leader())+1)%3]
	sealed := s.awaitSealed(node, 3)
	if err := s.nodes[node].Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.nodes[node].Wait(); err != nil {
		t.Fatalf("%s did not end well: %v", node, err)
	}
	flipByte(t, filepath.Join(sealed[0].Dir, "000001.vlog"), 100_000)
	flipByte(t, filepath.Join(sealed[1].Dir, "SEALED"), 30)
	s.spawn(node)
	s.await(node)
	if _, err := s.run(node, "storage", "scrub", "--wait", "--timeout", "1m"); err != nil {
		t.Logf("scrub: %v", err) // exit code 1: it found damage
	}
	after := s.awaitSealed(node, 3)
	if after[0].Dir == sealed[0].Dir || after[0].Digest != sealed[0].Digest || after[1].Digest != sealed[1].Digest {
		t.Errorf("segments after the repair: %+v, before: %+v", after[:2], sealed[:2])
	}
	s.readsFrom(node, records)
	if log := s.nodes[node].Log(); strings.Count(log, "segments repaired") != 2 || !strings.Contains(log, "set aside") || !strings.Contains(log, "a segment is damaged") {
		t.Errorf("the log does not say what happened:\n%s", log)
	}
}

// awaitSealed waits until a node's segments are all sealed but the newest, and at least so many are.
func (s *threeNodes) awaitSealed(node string, most int) (sealed []segmentJSON) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		out, err := s.run(node, "storage", "status", "-o", "json")
		if err != nil {
			s.t.Fatal(err)
		}
		var status struct {
			Node     string
			Segments []segmentJSON
		}
		if err := json.Unmarshal(out, &status); err != nil || status.Node != node {
			s.t.Fatalf("%s of %s: %v", out, node, err)
		}
		sealed = nil
		bad := 0
		for _, seg := range status.Segments {
			switch seg.State {
			case string(client.SegmentSealed):
				sealed = append(sealed, seg)
			case string(client.SegmentActive):
			default:
				bad++
			}
		}
		if bad == 0 && len(sealed) >= most {
			return sealed
		}
	}
	s.t.Fatalf("%s: not every segment is sealed", node)
	return nil
}

// run runs waxwing on a node.
func (s *threeNodes) run(node string, list ...string) ([]byte, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), os.Args[0], list...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "WAXWING_CONFIG_DIR="+s.path("config"), "WAXWING_CERT="+s.path("ops.crt"), "WAXWING_KEY="+s.path("ops.key"), "WAXWING_CA="+s.path("roots.crt"), "WAXWING_SERVER="+s.nodes[node].Ready.Client)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), errors.Join(err, errors.New(words.String()))
	}
	return out.Bytes(), nil
}

// readsFrom reads every record from one node.
func (s *threeNodes) readsFrom(node string, records int64) {
	s.t.Helper()
	c, err := client.Dial(s.t.Context(), client.Options{CertFile: s.path("orders.crt"), KeyFile: s.path("orders.key"), CAFile: s.path("roots.crt"), Servers: []string{s.nodes[node].Ready.Client}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if got := c.Welcome().Node; got != node {
		s.t.Fatalf("the client is on %s", got)
	}
	(&journal{t: s.t, c: c}).verify(s.site, records)
}

// flipByte changes a bit of a file.
func flipByte(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 4
	if err == nil {
		_, err = f.WriteAt(b[:], at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
