package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
)

// page asks a page of a site's broker with a certificate of its CA.
func (s *site) page(name, path string) (int, string, error) {
	source, err := identity.OpenClient(identity.ClientOptions{CertFile: s.path(name + ".crt"), KeyFile: s.path(name + ".key"), CAFile: s.path("roots.crt")})
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{TLSClientConfig: source.ConfigFor("localhost", identity.AdminSide), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + s.process().Ready.HTTPS + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// observerPolicy lets one client see metrics, and another publish.
const observerPolicy = `bindings:
  - identity: spiffe://site.example/client/observer
    allow:
      - {verbs: [observe]}
  - identity: spiffe://site.example/client/orders
    allow:
      - {verbs: [publish], topics: [">"]}
`

// TestT14T15HTTPS asks each page as an observer, as a client without the right, as the node, and as
// another node.
func TestT14T15HTTPS(t *testing.T) {
	s := newSite(t)
	s.write("policy.yaml", []byte(observerPolicy))
	for _, name := range []string{"observer", "orders"} {
		s.issue(ca.Request{Name: name})
	}
	s.issue(ca.Request{Name: "n2", Role: identity.RoleBroker, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	s.start()
	want := map[string][4]int{ // /metrics, /livez, /readyz, /else
		"observer": {200, 200, 200, 404},
		"orders":   {403, 403, 403, 404},
		"n1":       {403, 200, 200, 404},
		"n2":       {403, 403, 403, 404},
	}
	for name, codes := range want {
		for i, path := range []string{"/metrics", "/livez", "/readyz?verbose", "/else"} {
			code, text, err := s.page(name, path)
			if err != nil || code != codes[i] {
				t.Errorf("%s asks %s: %d, %v, want %d: %s", name, path, code, err, codes[i], text)
			}
		}
	}
	s.refusesStrangers(s.process().Ready.HTTPS, "h2", nil)
	s.refusesStrangers(s.process().Ready.Peer, identity.ALPNPeer, nil)
	s.refusesStrangers(s.process().Ready.Peer, identity.ALPNPeer, s.certificate("orders")) // of the same CA
}

// logLines keeps a broker's log and hands out lines that somebody waits for.
type logLines struct {
	mu    sync.Mutex
	added *sync.Cond
	text  bytes.Buffer // Guarded by mu.
}

func newLogLines() *logLines {
	l := &logLines{}
	l.added = sync.NewCond(&l.mu)
	return l
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.added.Broadcast()
	return l.text.Write(p)
}

// wait returns the first line, from byte from on, in which every word stands, and where it ends.
func (l *logLines) wait(from int, words ...string) (line string, end int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		all := l.text.String()
		for at := from; ; {
			n := strings.IndexByte(all[at:], '\n')
			if n < 0 {
				break
			}
			line = all[at : at+n]
			at += n + 1
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return line, at
			}
		}
		l.added.Wait()
	}
}

// TestRefusalsAreLogged sends what must not get in: each leaves a line of JSON with the reason, and with the identity that was
// claimed.
func TestRefusalsAreLogged(t *testing.T) {
	s := newSite(t)
	lines := newLogLines()
	s.log = lines
	s.issue(ca.Request{Name: "orders"})
	s.start()
	other, err := ca.New(siteTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = other
	s.issue(ca.Request{Name: "stranger"})
	for what, port := range map[string]struct{ message, address, alpn string }{
		"client": {`"msg":"handshake refused","remote"`, s.process().Ready.Client, identity.ALPNClient},
		"https":  {`"msg":"handshake refused","listener":"https"`, s.process().Ready.HTTPS, "h2"},
	} {
		for reason, try := range map[string]func() error{
			"untrusted":      func() error { return s.knock(port.address, tls.VersionTLS13, port.alpn, s.certificate("stranger")) },
			"no_certificate": func() error { return s.knock(port.address, tls.VersionTLS13, port.alpn, nil) },
			"alpn":           func() error { return s.knock(port.address, tls.VersionTLS13, "other/1", s.certificate("orders")) },
			"version":        func() error { return s.knock(port.address, tls.VersionTLS12, port.alpn, s.certificate("orders")) },
			"not_tls":        func() error { return plain(port.address) },
		} {
			if err := try(); err == nil {
				t.Errorf("%s: %s got in", what, reason)
			}
			line, _ := lines.wait(0, port.message, `"reason":"`+reason+`"`)
			var fields struct{ Identity, Error, Remote, Level string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Error == "" || fields.Remote == "" || fields.Level != "WARN" {
				t.Errorf("%s: %s: %v in %s", what, reason, err, line)
			}
			if want := "spiffe://site.example/client/stranger"; reason == "untrusted" && fields.Identity != want {
				t.Errorf("%s: identity %q, want %q", what, fields.Identity, want)
			}
		}
	}
}

// knock tries a handshake and waits until the broker has ended it.
func (s *site) knock(address string, version uint16, alpn string, cert *tls.Certificate) error {
	conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, NextProtos: []string{alpn}}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert == nil {
			return new(tls.Certificate), nil
		}
		return cert, nil
	}
	c, err := tls.Dial("tcp", address, conf)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Read(make([]byte, 1))
	return err
}

// plain speaks HTTP without TLS.
func plain(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := io.ReadAll(c)
	if err == nil && !bytes.Contains(answer, []byte("HTTP/1.1 200")) {
		err = errors.New("refused")
	}
	return err
}

// TestDeniedPagesAreLogged asks for a page without the right, under a name that would break a line of the log.
func TestDeniedPagesAreLogged(t *testing.T) {
	s := newSite(t)
	lines := newLogLines()
	s.log = lines
	s.write("policy.yaml", []byte(observerPolicy))
	s.issue(ca.Request{Name: "orders"})
	s.start()
	if code, _, err := s.page("orders", "/metrics?a=%0Ab"); err != nil || code != http.StatusForbidden {
		t.Errorf("%d, %v", code, err)
	}
	line, _ := lines.wait(0, "https request denied")
	for _, want := range []string{`"identity":"spiffe://site.example/client/orders"`, `"path":"/metrics"`, `"reason":"the policy grants neither observe nor admin`} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

// TestNodeMetricsAreClean asks promlint about every metric of a whole node that has had something of everything to do.
func TestNodeMetricsAreClean(t *testing.T) {
	s := newSite(t)
	s.issue(ca.Request{Name: "observer"})
	s.start()
	c := s.dial("orders")
	if _, err := c.Publish(t.Context(), "orders", client.Record{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Topics().Get(t.Context(), "no.such"); !errors.Is(err, client.ErrNotFound) {
		t.Fatal(err)
	}
	s.refusesStrangers(s.process().Ready.Client, identity.ALPNClient, nil)
	_, text, err := s.page("observer", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{"waxwing_errors_total{", "waxwing_tls_refused_total{", "waxwing_requests_total{", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestMetricsAreDocumented compares docs/metrics.md with what a broker serves.
func TestMetricsAreDocumented(t *testing.T) {
	s := newSite(t)
	s.write("policy.yaml", []byte(observerPolicy))
	s.issue(ca.Request{Name: "observer"})
	s.start()
	_, text, err := s.page("observer", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (waxwing_\w+) `).FindAllStringSubmatch(text, -1) {
		served[m[1]] = true
		if !strings.Contains(string(doc), "`"+m[1]) {
			t.Errorf("%s is served and not documented", m[1])
		}
	}
	lazy := map[string]bool{"waxwing_refused_total": true, "waxwing_errors_total": true, "waxwing_denied_total": true, "waxwing_limit_reached_total": true, "waxwing_tls_refused_total": true, "waxwing_handshakes_total": true, "waxwing_requests_total": true, "waxwing_peer_refused_total": true, "waxwing_forward_refused_total": true,
		"waxwing_raft_peer_contact_seconds": true, "waxwing_raft_peer_lag_entries": true} // of a leader with others
	for _, m := range regexp.MustCompile("`(waxwing_\\w+)").FindAllStringSubmatch(string(doc), -1) {
		if !served[m[1]] && !lazy[m[1]] {
			t.Errorf("%s is documented and not served", m[1])
		}
	}
	if len(served) < 10 {
		t.Error(fmt.Sprint("only ", len(served), " metrics served"))
	}
}

// certificate reads one of the site's.
func (s *site) certificate(name string) *tls.Certificate {
	s.t.Helper()
	c, err := identity.LoadPair(s.path(name+".crt"), s.path(name+".key"))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// refusesStrangers checks that a port ends the handshake of a certificate (nil = none).
func (s *site) refusesStrangers(address, alpn string, cert *tls.Certificate) {
	s.t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}}
	if cert != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	c, err := tls.Dial("tcp", address, conf)
	if err == nil { // TLS 1.3: the client believes in success before the server has verified it
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		s.t.Errorf("%s with %s: %v, want a TLS alert", address, alpn, err)
	}
}
