package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/storage"
)

// threeNodes is three brokers that are real processes, each on a loopback address of its own, so that ports can be fixed: they
// must be known before anybody starts.
type threeNodes struct {
	*site
	network string // "127.x.y."
	nodes   map[string]*launch.Process
}

var threeNames = []string{"n1", "n2", "n3"}

// threeShared is a name in the certificates of all three: a client that asks for it may resume a session of one node on another.
const threeShared = "waxwing.test"

func newThreeNodes(t *testing.T) *threeNodes {
	t.Helper()
	authority, err := ca.New(siteTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	s := &threeNodes{site: &site{t: t, dir: t.TempDir(), ca: authority}, network: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(256)), nodes: map[string]*launch.Process{}}
	s.write("roots.crt", authority.RootsPEM())
	s.write("policy.yaml", policy.Dev(siteTrustDomain))
	for i, name := range threeNames {
		s.configure(name, i+1, 3, s.join())
	}
	t.Cleanup(func() {
		for name := range s.nodes {
			s.kill(name)
		}
	})
	return s
}

// configure writes a node's files; its address ends in number.
func (s *threeNodes) configure(name string, number, expect int, join string) {
	s.t.Helper()
	ip := net.ParseIP(fmt.Sprint(s.network, number))
	s.issue(ca.Request{Name: name, Role: identity.RoleBroker, IPs: []net.IP{ip}, DNS: []string{threeShared}})
	s.write(name+".yaml", fmt.Appendf(nil, `node: {id: %s, data_dir: %q}
trust_domain: %s
listen: {client: %q, peer: %q, https: ""}
cluster:
  bootstrap_expect: %d
  join: [%s]
tls: {cert: %q, key: %q, ca: %q}
policy: {file: %q}
storage: {segment_bytes: 1048576, guard_bytes: %d}
`, name, s.path("data-"+name), siteTrustDomain, ip.String()+":17420", ip.String()+":17421", expect, join, s.path(name+".crt"), s.path(name+".key"), s.path("roots.crt"), s.path("policy.yaml"), storage.GuardMin(storage.SegmentBytesMin)))
}

func (s *threeNodes) join() (list string) {
	for i, name := range threeNames {
		list += fmt.Sprintf("%s@%s%d:17421, ", name, s.network, i+1)
	}
	return list[:len(list)-2]
}

// client is where clients reach a node.
func (s *threeNodes) client(i int) string { return fmt.Sprintf("%s%d:17420", s.network, i+1) }

// spawn starts a node and does not wait for it.
func (s *threeNodes) spawn(name string, env ...string) {
	s.t.Helper()
	p, err := launch.Spawn(launch.Options{Args: []string{"serve", "-c", s.path(name + ".yaml")}, Env: append(env, asProgram+"=1"), Stderr: s.log})
	if err != nil {
		s.t.Fatal(err)
	}
	s.nodes[name] = p
}

// await waits until nodes are ready.
func (s *threeNodes) await(names ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	var waiting sync.WaitGroup
	for _, name := range names {
		waiting.Go(func() {
			if err := s.nodes[name].AwaitReady(ctx); err != nil {
				s.t.Errorf("%s: %v", name, err)
			}
		})
	}
	waiting.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// kill ends a node as kill -9 does.
func (s *threeNodes) kill(name string) { s.nodes[name].Kill() }

// pause stops a node's process and waits until all of it stands still: a signal alone lets threads that run go on for a while.
func (s *threeNodes) pause(name string) {
	s.t.Helper()
	if err := s.nodes[name].Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	for still := false; !still; {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.nodes[name].PID()))
		if err != nil || len(threads) == 0 {
			s.t.Fatalf("threads of %s: %d, %v", name, len(threads), err)
		}
		still = !slices.ContainsFunc(threads, func(file string) bool {
			stat, err := os.ReadFile(file) // PID (NAME) STATE ...
			return err != nil || !bytes.Contains(stat, []byte(") T "))
		})
	}
}

// dial connects a client that goes through the nodes until it finds the leader.
func (s *threeNodes) dial(name string) *client.Client { return s.dialFrom(name, 0) }

// dialFrom begins with one of the nodes.
func (s *threeNodes) dialFrom(name string, first int) *client.Client {
	s.t.Helper()
	return s.dialTo(name, first, (first+1)%len(threeNames), (first+2)%len(threeNames))
}

// dialOnly connects a client that knows one node.
func (s *threeNodes) dialOnly(name string, node int) *client.Client {
	s.t.Helper()
	return s.dialTo(name, node)
}

func (s *threeNodes) dialTo(name string, nodes ...int) *client.Client {
	s.t.Helper()
	if _, err := os.Stat(s.path(name + ".crt")); err != nil {
		s.issue(ca.Request{Name: name})
	}
	o := client.Options{CertFile: s.path(name + ".crt"), KeyFile: s.path(name + ".key"), CAFile: s.path("roots.crt"), RequestTimeout: -1}
	for _, i := range nodes {
		o.Servers = append(o.Servers, s.client(i))
	}
	c, err := client.Dial(s.t.Context(), o)
	for err != nil && s.t.Context().Err() == nil { // there may be an election
		c, err = client.Dial(s.t.Context(), o)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// leader is who leads, as the nodes tell their clients.
func (s *threeNodes) leader() string {
	s.t.Helper()
	for s.t.Context().Err() == nil {
		c := s.dial("watch")
		address := c.Welcome().Leader
		c.Close(s.t.Context())
		for i, name := range threeNames {
			if address == s.client(i) {
				return name
			}
		}
	}
	s.t.Fatal("no node knows who leads")
	return ""
}

// TestC01KillNineOfThree kills the leader of three processes with SIGKILL, again and again, while a client publishes: another one
// leads, the client finds it, and every record that was acknowledged is there, once, in order.
func TestC01KillNineOfThree(t *testing.T) {
	lane.Need(t, 2, "C-01")
	kills := lane.Pick(0, 5, 50)
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	c := s.dial("orders")
	j := &journal{t: t, c: c, acked: make(chan int64, 1024), stop: make(chan struct{})}
	done := make(chan int64, 1)
	go func() { done <- j.publish() }()
	for kill := range kills {
		for range 500 {
			select {
			case <-j.acked:
			case <-t.Context().Done():
				t.Fatal("no acknowledgements any more")
			}
		}
		leader := s.leader()
		start := time.Now()
		s.kill(leader)
		<-j.acked
		for len(j.acked) > 0 {
			<-j.acked
		}
		<-j.acked
		t.Logf("kill %d of %s: acknowledged again after %v", kill, leader, time.Since(start).Round(time.Millisecond))
		s.spawn(leader)
		s.await(leader)
	}
	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	published := <-done
	j.verify(s.site, published)
	t.Logf("%d records acknowledged over %d kills", published, kills)
}

// TestR02StoppedLeader stops the leader's process for longer than an election takes, and lets it go on: another one leads meanwhile, the
// old one acknowledges nothing any more, and its client goes to the new one by itself. A linearizable read that waited for it in its
// socket shows what the new one has acknowledged.
func TestR02StoppedLeader(t *testing.T) {
	lane.Need(t, 2, "R-02")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	first := s.dial("orders")
	load := newLoad(t, s.dial("load"))
	defer load.end()
	publish := func(c *client.Client, want int64) {
		t.Helper()
		ack, err := c.Publish(t.Context(), journalTopic, client.Record{Body: journalBody(want)})
		if err != nil || ack.Offset != want {
			t.Fatalf("record %d: %+v, %v", want, ack, err)
		}
	}
	next := int64(0)
	for range 3 {
		publish(first, next)
		old := first.Welcome().Node
		reader := s.dialOnly("reader", slices.Index(threeNames, old))
		if got, err := reader.Topics().Linearizable().Get(t.Context(), journalTopic); err != nil || got.Partitions[0].Next != next+1 {
			t.Fatalf("%s shows %+v, %v, %d records were acknowledged", old, got, err, next+1)
		}
		s.pause(old)
		second := s.dial("orders") // waits for another leader: the stopped one answers nothing
		if now := second.Welcome().Node; now == old {
			t.Fatalf("%s leads, and is stopped", now)
		}
		publish(second, next+1)
		read := make(chan error, 1)
		go func() { read <- showsAtLeast(t.Context(), reader, journalTopic, next+2) }()
		late := first.PublishAsync(t.Context(), journalTopic, client.Record{Body: journalBody(next + 2)})
		if err := s.nodes[old].Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if ack, err := late.Wait(t.Context()); err != nil || ack.Offset != next+2 {
			t.Fatalf("the record that was sent to the stopped leader: %+v, %v", ack, err)
		}
		if err := <-read; err != nil {
			t.Errorf("%s was stopped and goes on: %v", old, err)
		}
		next += 3
	}
	(&journal{t: t, c: first}).verify(s.site, next)
}

// showsAtLeast says whether a linearizable read shows so many records.
func showsAtLeast(ctx context.Context, c *client.Client, topic string, want int64) error {
	got, err := c.Topics().Linearizable().Get(ctx, topic)
	if err == nil && got.Partitions[0].Next < want {
		err = fmt.Errorf("a linearizable read shows %d records, %d were acknowledged before it", got.Partitions[0].Next, want)
	}
	return err
}

// load keeps raft busy: a record is always on its way.
type load struct {
	stop chan struct{}
	done chan struct{}
}

func newLoad(t *testing.T, c *client.Client) *load {
	l := &load{make(chan struct{}), make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			if _, err := c.Publish(t.Context(), "load", client.Record{Body: []byte("load")}); err != nil {
				t.Errorf("load: %v", err)
				return
			}
		}
	}()
	return l
}

func (l *load) end() {
	close(l.stop)
	<-l.done
}

// TestR03PlannedStop stops the leader's process with SIGTERM, again and again, while clients of all three nodes publish: no publish
// fails, and nothing is lost, doubled or out of order.
func TestR03PlannedStop(t *testing.T) {
	lane.Need(t, 2, "R-03")
	stops := lane.Pick(0, 4, 40)
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	for stop := range stops {
		leader := s.leader()
		var publishing sync.WaitGroup
		var journals []*journal
		var published [3]int64
		for i, name := range threeNames {
			j := &journal{t: t, c: s.dialFrom("orders", i), topic: fmt.Sprintf("%s.%d.%s", journalTopic, stop, name), acked: make(chan int64, 1024), stop: make(chan struct{})}
			journals = append(journals, j)
			publishing.Go(func() { published[i] = j.publish() })
		}
		some := func(n int) {
			for _, j := range journals {
				for range n {
					if _, ok := <-j.acked; !ok {
						t.Fatal("publishing has ended")
					}
				}
			}
		}
		some(500)
		if err := s.nodes[leader].Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for _, j := range journals { // the clients must not wait for this test
			go func() {
				for range j.acked {
				}
			}()
		}
		if err := s.nodes[leader].Wait(); err != nil {
			t.Errorf("%s ended with %v", leader, err)
		}
		s.spawn(leader)
		s.await(leader)
		for _, j := range journals {
			close(j.stop)
		}
		publishing.Wait()
		for i, j := range journals {
			j.verify(s.site, published[i])
			t.Logf("%s stopped: %d records through %s", leader, published[i], threeNames[i])
		}
	}
}

// TestC04BeginningCutShort kills the node that begins the cluster at each step of it. Started again it begins it, or goes on.
func TestC04BeginningCutShort(t *testing.T) {
	lane.Need(t, 2, "C-04")
	for _, at := range []string{"node.write=crash-before", "node.rename=crash-after", "raft.set=crash-before", "raft.set=crash-after", "raft.append=crash-before", "raft.append=crash-after",
		"raft.set=crash-before@2", "raft.set=crash-after@3", "raft.append=crash-before@2", "raft.append=crash-after@2"} {
		t.Run(at, func(t *testing.T) {
			s := newThreeNodes(t)
			s.spawn("n1", "WAXWING_TEST_FAULT="+at)
			s.spawn("n2")
			s.spawn("n3")
			if err := s.nodes["n1"].Wait(); err == nil {
				t.Fatal("it ended well")
			}
			s.spawn("n1")
			s.await(threeNames...)
			c := s.dial("orders")
			if _, err := c.Publish(t.Context(), "begun", client.Record{Body: []byte("first")}); err != nil {
				t.Error(err)
			}
		})
	}
}
