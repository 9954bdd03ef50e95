package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/history"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/storage"
)

// site is a folder with certificates, a configuration and a data folder, for brokers that are
// real processes.
type site struct {
	t   *testing.T
	dir string
	ca  *ca.Authority
	log io.Writer // also gets the broker's log; nil = nobody

	mu     sync.Mutex
	broker *launch.Process // Guarded by mu.
}

const siteTrustDomain = "site.example"

// newSite prepares a node; start runs it.
func newSite(t *testing.T) *site {
	t.Helper()
	authority, err := ca.New(siteTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), ca: authority}
	s.write("roots.crt", authority.RootsPEM())
	s.issue(ca.Request{Name: "n1", Role: identity.RoleBroker, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	s.write("policy.yaml", policy.Dev(siteTrustDomain))
	s.write("broker.yaml", fmt.Appendf(nil, "node: {id: n1, data_dir: %q}\ntrust_domain: %s\nlisten: {client: \"127.0.0.1:0\", peer: \"127.0.0.1:0\", https: \"127.0.0.1:0\"}\ntls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\nstorage: {segment_bytes: 1048576, guard_bytes: %d}\n",
		s.path("data"), siteTrustDomain, s.path("n1.crt"), s.path("n1.key"), s.path("roots.crt"), s.path("policy.yaml"), storage.GuardMin(storage.SegmentBytesMin)))
	t.Cleanup(func() {
		if p := s.process(); p != nil && t.Failed() {
			t.Logf("the broker's log ends:\n%s", p.Log())
		}
		s.kill()
	})
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) issue(r ca.Request) {
	s.t.Helper()
	i, err := s.ca.Issue(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(r.Name+".crt", i.CertPEM)
	s.write(r.Name+".key", i.KeyPEM)
}

// start starts the broker's process and waits until it serves.
func (s *site) start(env ...string) {
	s.t.Helper()
	p, err := launch.Start(s.t.Context(), launch.Options{Args: []string{"serve", "-c", s.path("broker.yaml")}, Env: append(env, asProgram+"=1"), Stderr: s.log})
	if err != nil {
		s.t.Fatal(err)
	}
	s.setBroker(p)
}

func (s *site) setBroker(p *launch.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broker = p
}

// process is the broker's, or nil.
func (s *site) process() *launch.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broker
}

// kill ends it as kill -9 does.
func (s *site) kill() {
	if p := s.process(); p != nil {
		p.Kill()
	}
}

// dial connects a client that finds the broker wherever it listens now.
func (s *site) dial(name string) *client.Client {
	s.t.Helper()
	c, err := s.tryDial(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// tryDial is dial to a broker that may end.
func (s *site) tryDial(name string) (*client.Client, error) {
	s.t.Helper()
	s.issue(ca.Request{Name: name})
	c, err := client.Dial(s.t.Context(), client.Options{Servers: []string{"localhost:1"}, CertFile: s.path(name + ".crt"), KeyFile: s.path(name + ".key"), CAFile: s.path("roots.crt"), RequestTimeout: -1,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.process().Ready.Client)
		}})
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c, nil
}

// TestC01KillNine kills the broker with SIGKILL at random moments while a client publishes. The
// journal of acknowledgements is kept here, outside the data folder: record i must have been given offset i, and must
// be read back there, once, in order, with its bytes and its publisher.
func TestC01KillNine(t *testing.T) {
	kills := lane.Pick(5, 200, 1000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d kills, seed %d", kills, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t)
	s.start()
	c := s.dial("orders")
	j := &journal{t: t, c: c, acked: make(chan int64, 1024), stop: make(chan struct{})}
	done := make(chan int64, 1)
	go func() { done <- j.publish() }()
	for range kills {
		for n := random.IntN(400); n >= 0; n-- { // a random number of acknowledgements later
			select {
			case <-j.acked:
			case <-t.Context().Done():
				t.Fatal("no acknowledgements any more")
			}
		}
		s.kill()
		s.start()
	}
	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	published := <-done
	j.verify(s, published)
	t.Logf("%d records acknowledged over %d kills", published, kills)
	if published < 8<<10 {
		return // too little for the segments of a MiB to be of interest
	}
	if sealed, err := filepath.Glob(s.path("data/storage/segments/*/SEALED")); err != nil || len(sealed) == 0 {
		t.Errorf("no segment was sealed: %v", err)
	}
}

// journal publishes numbered records and knows what was acknowledged.
type journal struct {
	t     *testing.T
	c     *client.Client
	topic string // "" = journalTopic
	acked chan int64
	stop  chan struct{}
}

const journalTopic = "journal"

// publish keeps records in flight until stop, waits for all, and returns how many were acknowledged.
func (j *journal) publish() int64 {
	defer close(j.acked)
	var inFlight []*client.Future
	next, settled := int64(0), int64(0)
	settle := func() {
		ack, err := inFlight[0].Wait(context.Background())
		switch {
		case err != nil:
			j.t.Errorf("record %d: %v", settled, err)
		case ack.Offset != settled:
			j.t.Errorf("record %d was acknowledged at offset %d", settled, ack.Offset)
		}
		inFlight = inFlight[1:]
		settled++
		j.acked <- settled
	}
	for {
		select {
		case <-j.stop:
			for len(inFlight) > 0 {
				settle()
			}
			return settled
		default:
		}
		inFlight = append(inFlight, j.c.PublishAsync(context.Background(), cmp.Or(j.topic, journalTopic), client.Record{Body: journalBody(next)}))
		if next++; len(inFlight) >= 256 {
			settle()
		}
	}
}

// journalBody is a KiB, so that a run fills segments.
func journalBody(n int64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{byte(n)}, 1016), uint64(n))
}

// verify reads everything back and holds it against what was acknowledged: record i at offset i.
func (j *journal) verify(s *site, want int64) {
	j.t.Helper()
	sub, err := j.c.Subscribe(j.t.Context(), client.SubscribeOptions{Topics: []string{cmp.Or(j.topic, journalTopic)}, From: client.Earliest(), StopAtEnd: true})
	if err != nil {
		j.t.Fatal(err)
	}
	var log []history.Record
	for m, err := range sub.Messages() {
		if err != nil {
			j.t.Fatal(err)
		}
		log = append(log, history.Record{Offset: m.Offset, Value: journalSum(m.Body), Publisher: m.Publisher})
	}
	ops := make([]history.Op, want)
	for i := range ops {
		ops[i] = history.Op{Client: "orders", Kind: history.Append, Partition: journalTopic, Outcome: history.OK, Number: i, Value: journalSum(journalBody(int64(i))), Offset: int64(i)}
	}
	for i, f := range history.CheckLog(journalTopic, log, ops, func(name string) string { return identity.ClientID(siteTrustDomain, name) }) {
		if j.t.Error(f); i == 10 {
			break
		}
	}
	if int64(len(log)) != want {
		j.t.Errorf("%d records read, %d were acknowledged", len(log), want)
	}
}

// journalSum is short and as good as the body.
func journalSum(body []byte) string { return fmt.Sprintf("%x", sha256.Sum256(body)) }
