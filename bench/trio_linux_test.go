package bench_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
)

// trioWait bounds how long three brokers may take to serve, elect or acknowledge.
const trioWait = 2 * time.Minute

// trio is three brokers, each a process on a loopback address of its own: they must know those of the others before they start. They can
// be killed and started again.
type trio struct {
	*site
	b       *testing.B
	network string // "127.x.y."
	nodes   [3]*launch.Process
	topics  int
}

// newTrio starts three brokers and returns when they serve. It skips when less than this many MiB are free.
func newTrio(b *testing.B, needMiB int64) *trio {
	b.Helper()
	s := &trio{site: newSite(b, needMiB), b: b, network: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(256))}
	if err := os.WriteFile(filepath.Join(s.dir, "policy.yaml"), policy.Dev(identitytest.TrustDomain), 0o600); err != nil {
		b.Fatal(err)
	}
	var join []string
	for i := range s.nodes {
		join = append(join, fmt.Sprintf("n%d@%s", i+1, s.address(i, 17421)))
	}
	more := ""
	if *election > 0 {
		more = fmt.Sprintf("election_timeout: %v, ", *election)
	}
	for i := range s.nodes {
		id := fmt.Sprint("n", i+1)
		files := s.pki.Save(id, s.pki.Must(ca.Request{Name: id, Role: identity.RoleBroker, IPs: []net.IP{net.ParseIP(fmt.Sprint(s.network, i+1))}}))
		text := fmt.Sprintf("node: {id: %s, data_dir: %q}\ntrust_domain: %s\nlisten: {client: %q, peer: %q, https: \"\"}\ncluster: {%sbootstrap_expect: 3, join: [%s]}\ntls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\n",
			id, filepath.Join(s.dir, id), identitytest.TrustDomain, s.address(i, 17420), s.address(i, 17421), more, strings.Join(join, ", "), files.Cert, files.Key, files.CA, filepath.Join(s.dir, "policy.yaml"))
		if err := os.WriteFile(s.file(i), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		s.spawn(i)
	}
	s.await(0, 1, 2)
	return s
}

func (s *trio) address(node, port int) string {
	return fmt.Sprintf("%s%d:%d", s.network, node+1, port)
}

func (s *trio) file(node int) string {
	return filepath.Join(s.dir, fmt.Sprintf("n%d.yaml", node+1))
}

// spawn starts a node and does not wait for it.
func (s *trio) spawn(node int) {
	s.b.Helper()
	p, err := launch.Spawn(launch.Options{Binary: s.binary, Args: []string{"serve", "-c", s.file(node)}})
	if err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(p.Kill)
	s.nodes[node] = p
}

// await waits until nodes serve.
func (s *trio) await(nodes ...int) {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(s.b.Context(), trioWait)
	defer cancel()
	var waiting sync.WaitGroup
	for _, i := range nodes {
		waiting.Go(func() {
			if err := s.nodes[i].AwaitReady(ctx); err != nil {
				s.b.Error(err)
			}
		})
	}
	if waiting.Wait(); s.b.Failed() {
		s.b.FailNow()
	}
}

// dial connects a client to a node; it knows the others as well. The caller closes it.
func (s *trio) dial(b *testing.B, node int) *client.Client {
	b.Helper()
	f := s.pki.ClientFiles("bench")
	o := client.Options{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, RequestTimeout: trioWait}
	for i := range s.nodes {
		o.Servers = append(o.Servers, s.address((node+i)%3, 17420))
	}
	c, err := client.Dial(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// leader is who leads, once a node says so.
func (s *trio) leader() int {
	s.b.Helper()
	for end := time.Now().Add(trioWait); time.Now().Before(end); {
		c := s.dial(s.b, rand.IntN(3))
		at := c.Welcome().Leader
		c.Close(s.b.Context())
		for i := range s.nodes {
			if at == s.address(i, 17420) {
				return i
			}
		}
	}
	s.b.Fatal("no node knows who leads")
	return 0
}
