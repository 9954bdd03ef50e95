package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestT03EveryPort speaks everything but TLS 1.3 with a good certificate to each of the three ports: the connection ends
// within the handshake's deadline, nothing but a TLS alert comes back, and the log has the reason on one escaped line.
func TestT03EveryPort(t *testing.T) {
	t.Parallel() // it waits for the broker's own deadlines
	s := newSite(t)
	book := &logBook{wrote: make(chan struct{}, 1)}
	s.log = book
	s.start()
	ready := s.process().Ready
	stranger, err := ca.New("stranger.example")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Issue(ca.Request{Name: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	s.issue(ca.Request{Name: "orders"})
	var wg sync.WaitGroup
	for port, at := range map[string]struct{ address, alpn string }{
		"client": {ready.Client, identity.ALPNClient}, "peer": {ready.Peer, identity.ALPNPeer}, "https": {ready.HTTPS, "h2"},
	} {
		for name, hello := range map[string]string{
			"plain HTTP":        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
			"HTTP/2":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"an SSH banner":     "SSH-2.0-OpenSSH_9.2\r\n",
			"random bytes":      strings.Repeat("\x9f\x00\xc3\x5a\xff\x13", 100),
			"a frame":           string((&protocol.Hello{Versions: []uint64{1}}).AppendFrame(nil, 1)),
			"an SSLv2 hello":    "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
			"half a hello":      "\x16\x03\x01\x02\x00\x01\x00",
			"an endless record": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70<<10),
			"nothing":           "",
		} {
			wg.Go(func() { endsUntold(t, port+": "+name, at.address, hello) })
		}
		for name, conf := range map[string]*tls.Config{
			"TLS 1.0":          {MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10},
			"TLS 1.1":          {MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS11},
			"TLS 1.2":          {MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS12},
			"RSA key exchange": {MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}},
			"no ALPN":          {},
			"another's ALPN":   {NextProtos: []string{"waxwing-other/1"}},
		} {
			cert := s.certificate("orders")
			conf.InsecureSkipVerify = true
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
			if conf.MaxVersion != 0 {
				conf.NextProtos = []string{at.alpn}
			}
			wg.Go(func() { refusedByAlert(t, port+": "+name, at.address, conf) })
		}
		cert := foreign.TLS()
		s.refusesStrangers(at.address, at.alpn, nil)
		s.refusesStrangers(at.address, at.alpn, &cert)
	}
	wg.Wait()
	book.wantRefusals(t)
	if code, _, err := s.page("n1", "/livez"); code != 200 || err != nil {
		t.Errorf("after them: %d, %v", code, err)
	}
}

// endsUntold sends bytes to a port and reads until it ends.
func endsUntold(t *testing.T, name, address, hello string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer c.Close()
	start := time.Now()
	c.SetDeadline(start.Add(time.Minute))
	go io.WriteString(c, hello) // the broker need not read it all
	got, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: held for %v", name, time.Since(start))
	}
	if len(got) > 7 || len(got) > 0 && got[0] != 0x15 {
		t.Errorf("%s: got %q, want at most a TLS alert", name, got)
	}
}

// refusedByAlert shakes hands and expects that nothing comes of it.
func refusedByAlert(t *testing.T, name, address string, conf *tls.Config) {
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(time.Minute))
	c := tls.Client(raw, conf)
	if err = c.Handshake(); err == nil { // TLS 1.3: the client believes in success before the server has verified it
		var n int
		n, err = c.Read(make([]byte, 100))
		if n > 0 {
			t.Errorf("%s: %d bytes of the application came back", name, n)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("%s: %v, want an alert", name, err)
	}
}

// wantRefusals reads the log: each port has refused, with a reason, on lines of JSON.
func (l *logBook) wantRefusals(t *testing.T) {
	t.Helper()
	want := map[string]int{"client": 0, "https": 0, "peer": 0}
	for line := range strings.Lines(l.String()) {
		if !strings.HasSuffix(line, "\n") {
			break // the rest of it comes
		}
		var entry struct{ Msg, Listener, Reason, Error, Remote string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a line of the log is no JSON: %q", line)
			continue
		}
		switch {
		case entry.Remote == "" || entry.Error == "":
		case entry.Msg == "handshake refused" && entry.Listener == "https":
			want["https"]++
		case entry.Msg == "handshake refused":
			want["client"]++
		case strings.HasPrefix(entry.Msg, "peer"):
			want["peer"]++
		}
	}
	for port, lines := range want {
		if lines == 0 {
			t.Errorf("the log has no refusal at the %s port", port)
		}
	}
}

// TestP10LogValues writes what a peer may choose into every kind of value: no line of either format has a byte that does
// not print.
func TestP10LogValues(t *testing.T) {
	type name string
	evil := "a\r\nb\tc\x00\x07\x1b[31m\x7f\u0085\u009b2J\u200b\u202e\u2066\ufeff\xff"
	for format, lines := range map[string]int{"json": 1, "text": 1} {
		var out bytes.Buffer
		log := newLogger(&out, format, slog.LevelDebug)
		log.Warn("refused", "text", evil, "error", errorText(evil), "typed", name(evil), slog.Group("group", "in", evil), "long", strings.Repeat("x", 1<<20))
		text := strings.TrimSuffix(out.String(), "\n")
		if n := strings.Count(text, "\n") + 1; n != lines {
			t.Errorf("%s: %d lines", format, n)
		}
		for _, r := range text {
			if r < ' ' || r > '~' {
				t.Fatalf("%s: the log holds %U: %.300q", format, r, text)
			}
		}
		if len(text) > 64<<10 {
			t.Errorf("%s: a line of %d bytes", format, len(text))
		}
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }
