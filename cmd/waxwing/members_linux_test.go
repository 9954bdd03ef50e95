package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// waxwing runs the command line as an admin, against all nodes.
func (s *threeNodes) waxwing(list ...string) (string, int) {
	s.t.Helper()
	if _, err := os.Stat(s.path("admin.crt")); err != nil {
		s.issue(ca.Request{Name: "admin"})
	}
	var servers []string
	for i := range 4 {
		servers = append(servers, fmt.Sprintf("%s%d:17420", s.network, i+1))
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), self, list...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "WAXWING_CONFIG_DIR="+s.path("config"), "WAXWING_SERVER="+strings.Join(servers, ","),
		"WAXWING_CERT="+s.path("admin.crt"), "WAXWING_KEY="+s.path("admin.key"), "WAXWING_CA="+s.path("roots.crt"), "WAXWING_TIMEOUT=60s")
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		s.t.Fatal(err)
	}
	if words.Len() > 0 {
		s.t.Logf("%s: %s", strings.Join(list, " "), words.String())
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *threeNodes) must(list ...string) string {
	s.t.Helper()
	out, code := s.waxwing(list...)
	if code != exitOK {
		s.t.Fatalf("%v: exit code %d: %s", list, code, out)
	}
	return out
}

// status asks for the members until they are as wanted; it may take an election.
func (s *threeNodes) status(what string, is func(*clusterJSON) bool) *clusterJSON {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		out, code := s.waxwing("cluster", "status", "-o", "json")
		if code != exitOK {
			continue
		}
		var c clusterJSON
		if err := json.Unmarshal([]byte(out), &c); err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
		if is(&c) {
			return &c
		}
	}
	s.t.Fatalf("within two minutes not: %s", what)
	return nil
}

func (c *clusterJSON) role(node string) string {
	for _, m := range c.Members {
		if m.ID == node {
			return m.Role
		}
	}
	return ""
}

// readmeCluster is the README's commands about members, by sub-command.
func (s *threeNodes) readmeCluster() map[string][]string {
	s.t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		s.t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(page), "### When the majority is lost for good") // which is a way of its own
	commands := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\$ waxwing (cluster [^#\n]*)`).FindAllStringSubmatch(text, -1) {
		list := strings.Fields(strings.ReplaceAll(m[1], "HOST:7421", s.network+"4:17421"))
		commands[list[1]] = list
	}
	if len(commands) != 5 {
		s.t.Fatalf("the README has %v", commands)
	}
	return commands
}

// TestR04Processes has a fourth process join three, kills the leader, and removes one for ever, all by the command line, while a
// client publishes: nothing that was acknowledged is lost, doubled or out of
// order. The commands are the README's.
func TestR04Processes(t *testing.T) {
	lane.Need(t, 2, "R-04")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	j := &journal{t: t, c: s.dial("orders"), acked: make(chan int64, 1024), stop: make(chan struct{})}
	done := make(chan int64, 1)
	go func() { done <- j.publish() }()
	some := func() { // of what is published now is acknowledged
		for len(j.acked) > 0 {
			<-j.acked
		}
		for range 300 {
			<-j.acked
		}
	}
	some()
	readme := s.readmeCluster()

	s.configure("n4", 4, 0, fmt.Sprintf("n1@%[1]s1:17421, n4@%[1]s4:17421", s.network))
	s.spawn("n4")
	s.must(readme["join"]...)
	s.await("n4")
	some()
	c := s.status("n4 votes", func(c *clusterJSON) bool { return c.role("n4") == "follower" || c.role("n4") == "leader" })
	for _, m := range c.Members {
		if m.Fault != "" || *m.PID != s.nodes[m.ID].PID() || *m.Term == 0 || *m.Applied == 0 || *m.Version != version || *m.DiskFree == 0 || m.Contact == nil {
			t.Errorf("%+v", m)
		}
	}
	if len(c.Members) != 4 {
		t.Errorf("%d members", len(c.Members))
	}

	s.kill(c.Leader)
	some()
	s.spawn(c.Leader)
	s.await(c.Leader)

	s.must(readme["transfer-leader"]...)
	s.status("n4 leads", func(c *clusterJSON) bool { return c.Leader == "n4" })
	some()
	s.must(readme["remove"]...)
	if code := exitCodeOf(s.nodes["n2"].Wait()); code != exitRemoved {
		t.Errorf("the removed node ended with %d", code)
	}
	some()
	s.spawn("n2")
	if code := exitCodeOf(s.nodes["n2"].Wait()); code != exitRemoved {
		t.Errorf("the removed node, started again, ended with %d", code)
	}
	s.must(readme["members"]...)
	c = s.status("n2 is gone", func(c *clusterJSON) bool { return c.role("n2") == "" })
	if len(c.Removed) != 1 || c.Removed[0].ID != "n2" {
		t.Errorf("removed: %+v", c.Removed)
	}
	s.must("cluster", "remove", "n4", "-y") // it leads
	some()

	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	published := <-done
	j.verify(s.site, published)
	t.Logf("%d records acknowledged", published)
}

func exitCodeOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

// TestStatusWithoutQuorum: a node that is left alone shows what it knows, and says with exit code 7 that there is no quorum; it answers
// no linearizable read, which one of three does.
func TestStatusWithoutQuorum(t *testing.T) {
	lane.Need(t, 2, "issue 4.7")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	s.must("topic", "create", "orders")
	linearizable := [][]string{{"topic", "ls", "--linearizable"}, {"topic", "show", "orders", "--linearizable"}, {"policy", "show", "--linearizable"}, {"sub", "orders", "--stop-at-end", "--linearizable"}}
	for _, read := range linearizable {
		s.must(read...)
	}
	s.kill("n2")
	s.kill("n3")
	for _, read := range linearizable {
		for end := time.Now().Add(2 * time.Minute); ; { // a slow start may take the time of one
			out, code := s.waxwing(append(read, "--timeout", "8s")...)
			if code == exitNoQuorum {
				break
			}
			if code == exitOK || time.Now().After(end) {
				t.Fatalf("%v without a quorum: exit code %d: %s", read, code, out)
			}
		}
	}
	for end := time.Now().Add(2 * time.Minute); ; {
		out, code := s.waxwing("cluster", "status", "-o", "json")
		var c clusterJSON
		if err := json.Unmarshal([]byte(out), &c); err == nil && code == exitNoQuorum && c.Leader == "" {
			if len(c.Members) != 3 || c.Members[0].Fault != "" || c.Members[1].Fault == "" || c.Members[2].Fault == "" {
				t.Errorf("%s", out)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("exit code %d: %s", code, out)
		}
	}
	for end := time.Now().Add(2 * time.Minute); ; { // at first it may be that it waits for an election
		out, code := s.waxwing("cluster", "remove", "n2", "-y", "--timeout", "5s")
		if code == exitNoQuorum {
			break
		}
		if code == exitOK || time.Now().After(end) {
			t.Fatalf("remove without a quorum: exit code %d: %s", code, out)
		}
	}
}
