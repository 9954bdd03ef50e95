package identity_test

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// TestHandshakeKeepsTheSession: a client that a broker turned away, closing the connection in the middle of a handshake, resumes its
// session at the next attempt. One whose handshake was refused with an alert begins anew.
func TestHandshakeKeepsTheSession(t *testing.T) {
	pki := identitytest.New(t)
	broker := pki.Source("n1")
	files := pki.ClientFiles("orders")
	client, err := identity.OpenClient(identity.ClientOptions{CertFile: files.Cert, KeyFile: files.Key, CAFile: files.CA, Sessions: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// connect is one attempt, which the broker's side takes as it likes.
	connect := func(take func(net.Conn)) (resumed bool, err error) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if raw, err := l.Accept(); err == nil {
				take(raw)
				raw.Close()
			}
		}()
		defer func() { <-done }()
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c, err := client.Handshake(t.Context(), raw, "localhost")
		if err != nil {
			return false, err
		}
		var word [1]byte
		if _, err := c.Read(word[:]); err != nil { // the ticket comes before it
			return false, err
		}
		return c.ConnectionState().DidResume, nil
	}
	conf := broker.ServerConfig(identity.ClientSide)
	serve := func(raw net.Conn) {
		c := tls.Server(raw, conf)
		c.Write([]byte{1})
		c.CloseWrite()
	}
	turnAway := func(raw net.Conn) { raw.Read(make([]byte, 1<<14)) }
	refuse := func(raw net.Conn) { // a fatal alert, handshake_failure
		raw.Read(make([]byte, 1<<14))
		raw.Write([]byte{21, 3, 3, 0, 2, 2, 40})
	}
	for i, step := range []struct {
		take    func(net.Conn)
		fails   bool
		resumed bool
	}{{serve, false, false}, {serve, false, true}, {turnAway, true, false}, {turnAway, true, false}, {serve, false, true}, {refuse, true, false}, {serve, false, false}, {serve, false, true}} {
		if resumed, err := connect(step.take); resumed != step.resumed || (err != nil) != step.fails {
			t.Errorf("attempt %d: resumed %t, %v", i, resumed, err)
		}
	}
}
