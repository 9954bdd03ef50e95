package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/admin"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/policy"
)

// surface is a server in memory, in a bubble.
type surface struct {
	t       *testing.T
	pki     *identitytest.PKI
	network *memnet.Network
	log     bytes.Buffer // read it when nothing runs
	unknown atomic.Bool  // the policy
}

const surfaceAddress = "n1.test:7422"

func newSurface(t *testing.T) *surface {
	s := &surface{t: t, pki: identitytest.New(t), network: new(memnet.Network)}
	p, err := policy.Compile([]byte("bindings:\n  - {identity: spiffe://test.example/client/ops, allow: [{verbs: [observe]}]}\n"), 1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.network.Listen(surfaceAddress)
	if err != nil {
		t.Fatal(err)
	}
	server := admin.New(admin.Options{NodeID: "n1", Identity: s.pki.Source("n1"), Policy: func() *policy.Policy {
		if s.unknown.Load() {
			return nil
		}
		return p
	}, Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.NewJSONHandler(&s.log, nil))})
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *surface) dial() net.Conn {
	s.t.Helper()
	c, err := s.network.DialContext(s.t.Context(), "tcp", surfaceAddress)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// live asks /livez as a client.
func (s *surface) live(name string) (int, error) {
	return s.liveAs(s.pki.Client(name).TLS())
}

func (s *surface) liveAs(cert tls.Certificate) (int, error) {
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		c := tls.Client(s.dial(), &tls.Config{RootCAs: s.pki.Roots(), ServerName: "localhost", NextProtos: []string{identity.ALPNHTTP}, Certificates: []tls.Certificate{cert}})
		return c, c.Handshake()
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + surfaceAddress + "/livez")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// TestT13StalledCallers takes every place for a handshake: one more is closed at once, and when the deadline has ended the
// stalled ones, others get in again.
func TestT13StalledCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSurface(t)
		if code, err := s.live("ops"); code != 200 || err != nil {
			t.Fatal(code, err)
		}
		synctest.Wait() // its handshake has given its place back
		start := time.Now()
		var stalled []net.Conn
		for range 32 {
			stalled = append(stalled, s.dial())
		}
		synctest.Wait()
		extra := s.dial()
		if n, err := extra.Read(make([]byte, 1)); n > 0 || err == nil || time.Since(start) > 0 {
			t.Errorf("one more: %d bytes, %v, after %v", n, err, time.Since(start))
		}
		for _, c := range stalled {
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				t.Error("a stalled handshake got bytes")
			}
			c.Close()
		}
		if held := time.Since(start); held != 5*time.Second {
			t.Errorf("held for %v, want 5 s", held)
		}
		synctest.Wait()
		if code, err := s.live("ops"); code != 200 || err != nil {
			t.Errorf("after them: %d, %v", code, err)
		}
	})
}

// TestRefusalsAreBounded asks without the right, often: each is refused, and the log keeps to its lines a second.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSurface(t)
		for range 50 {
			if code, err := s.live("somebody"); code != 403 || err != nil {
				t.Fatal(code, err)
			}
		}
		time.Sleep(time.Second)
		s.live("somebody")
		synctest.Wait()
		if lines := strings.Count(s.log.String(), "https request denied"); lines != 21 || !strings.Contains(s.log.String(), `"suppressed":30`) {
			t.Errorf("%d lines of 51 refusals: %s", lines, s.log.String())
		}
	})
}

// TestPolicyUnknown: while the node does not know the policy it answers nobody but itself.
func TestPolicyUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSurface(t)
		s.unknown.Store(true)
		for who, c := range map[string]struct {
			cert tls.Certificate
			want int
		}{"the node": {s.pki.Broker("n1").TLS(), 200}, "another node": {s.pki.Broker("n2").TLS(), 403}, "a client": {s.pki.Client("ops").TLS(), 503}} {
			if code, err := s.liveAs(c.cert); code != c.want || err != nil {
				t.Errorf("%s: %d, %v, want %d", who, code, err, c.want)
			}
		}
		s.unknown.Store(false)
		if code, err := s.live("ops"); code != 200 || err != nil {
			t.Errorf("with a policy: %d, %v", code, err)
		}
	})
}
