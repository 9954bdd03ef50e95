package broker_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// TestT03NotTLS speaks everything but TLS 1.3 with a certificate: each is refused within the
// handshake's deadline, and gets no byte of the application.
func TestT03NotTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(*broker.Limits) {})
		for name, hello := range map[string]string{
			"HTTP":         "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"SSH":          "SSH-2.0-OpenSSH_9.2\r\n",
			"garbage":      strings.Repeat("\x00\xff\x13\x37", 64),
			"a frame":      string((&protocol.Hello{Versions: []uint64{1}}).AppendFrame(nil, 1)),
			"half a hello": "\x16\x03\x01\x02\x00\x01\x00",
			"nothing":      "",
		} {
			c := knock(t, network)
			start := time.Now()
			io.WriteString(c, hello)
			got, _ := io.ReadAll(c)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s: held for %v", name, took)
			}
			if len(got) > 7 || len(got) > 0 && got[0] != 0x15 {
				t.Errorf("%s: got %q, want at most a TLS alert", name, got)
			}
		}
		cert := n.PKI.Client("old")
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
			conf := n.PKI.ClientConfig(cert, identity.ALPNClient)
			conf.MinVersion, conf.MaxVersion = version, version
			if err := tls.Client(knock(t, network), conf).Handshake(); err == nil {
				t.Errorf("%s was accepted", tls.VersionName(version))
			}
		}
		for name, alpn := range map[string][]string{"none": nil, "peer": {identity.ALPNPeer}, "http": {"h2"}} {
			c := tls.Client(knock(t, network), n.PKI.ClientConfig(cert, alpn...))
			if err := c.Handshake(); err != nil {
				continue
			}
			if got, _ := io.ReadAll(c); len(got) > 0 {
				t.Errorf("ALPN %s: got %q", name, got)
			}
		}
	})
}

// TestP08IllegalFrames sends what no client may send after HELLO: the connection ends with a
// code, and the broker serves others.
func TestP08IllegalFrames(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	raw := func(body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, c := range map[string]struct {
		frame []byte
		code  protocol.Code
	}{
		"empty frame":        {[]byte{0, 0, 0, 0}, protocol.CodeMalformed},
		"lying length":       {[]byte{0xff, 0xff, 0xff, 0xff}, protocol.CodeTooLarge},
		"no array":           {raw(0x01), protocol.CodeMalformed},
		"array bomb":         {raw(0xdd, 0xff, 0xff, 0xff, 0xff), protocol.CodeMalformed},
		"nesting":            {raw(append([]byte{0x93, 24, 1}, bytes.Repeat([]byte{0x91}, 1000)...)...), protocol.CodeMalformed},
		"HELLO again":        {(&protocol.Hello{Versions: []uint64{1}}).AppendFrame(nil, 9), protocol.CodeMalformed},
		"a broker's frame":   {(&protocol.Published{}).AppendFrame(nil, 9), protocol.CodeMalformed},
		"publish cut short":  {raw(0x93, 16, 1, 0xa1), protocol.CodeMalformed},
		"bytes behind":       {raw(0x93, 6, 1, 5, 0), protocol.CodeMalformed},
		"non-minimal length": {raw(0x93, 0xcc, 6, 1, 5), protocol.CodeMalformed},
	} {
		r := n.Dial(t, "hostile")
		if _, err := r.Write(c.frame); err != nil {
			t.Fatal(err)
		}
		if last := r.WaitEnd(); brokertest.Code(last) != c.code {
			t.Errorf("%s: ended with %#v, want %v", name, last, c.code)
		}
	}
	r := n.Dial(t, "good")
	if _, err := r.Write(raw(0x93, 0xcc, 200, 7, 5)); err != nil { // kind 200, of some later version
		t.Fatal(err)
	}
	if m := r.Receive(); brokertest.Code(m) != protocol.CodeUnsupported {
		t.Errorf("unknown kind: %#v", m)
	}
	if m := r.Publish("t", 0, "x"); m.Kind() != protocol.KindPublished {
		t.Errorf("after an unknown kind: %#v", m)
	}
}

// TestU03Versions negotiates.
func TestU03Versions(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	for _, c := range []struct {
		versions []uint64
		code     protocol.Code
	}{
		{[]uint64{99, protocol.Version}, 0},
		{[]uint64{99}, protocol.CodeUnsupported},
		{nil, protocol.CodeUnsupported},
	} {
		r := n.Connect(t, n.PKI.Client("c"))
		r.Send(&protocol.Hello{Versions: c.versions})
		if m := r.Receive(); brokertest.Code(m) != c.code {
			t.Errorf("%v: %#v", c.versions, m)
		}
	}
	r := n.Connect(t, n.PKI.Client("c"))
	if _, err := r.Write((&protocol.WhoAmI{}).AppendFrame(nil, 1)); err != nil {
		t.Fatal(err)
	}
	if m := r.Receive(); brokertest.Code(m) != protocol.CodeMalformed {
		t.Errorf("a request before HELLO: %#v", m)
	}
}

// TestP10LoggedFieldsAreEscaped puts control characters where the broker logs what a client says.
func TestP10LoggedFieldsAreEscaped(t *testing.T) {
	var log logBuffer
	n := brokertest.Start(t, brokertest.Options{Logger: log.logger(), Policy: brokertest.PolicyFor("nobody", "publish", "x")})
	evil := "a\nb\x1b[31m\x00\u202e" + strings.Repeat("x", 5000)
	r := n.Dial(t, "c")
	r.Ask(&protocol.TopicDelete{Name: "some.topic"}) // a denial is logged
	r.Ask(&protocol.TopicGet{Name: evil[:200]})
	admin := n.Dial(t, "admin")
	admin.Ask(&protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: "spiffe://x/" + evil[:100], Reason: evil[:300]}})
	text := log.String()
	if !strings.Contains(text, "denied") || !strings.Contains(text, "revocation list changed") {
		t.Fatalf("the log lacks what it should hold: %s", text)
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if len(line) > 4000 || !strings.HasPrefix(line, "{") || strings.ContainsAny(line, "\x00\x1b\r\u202e") {
			t.Errorf("line %d of the log: %q", i, line)
		}
	}
}
