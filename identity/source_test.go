package identity_test

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
)

// meeting is what both ends know after a handshake and one byte each way.
type meeting struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

// meet shakes hands in memory; the server sends a byte so that the client reads the ticket.
func meet(server, client *tls.Config) meeting {
	a, b := memnet.Pipe()
	return shake(a, b, server, client)
}

// meetGuarded is meet with the server's bound on bytes.
func meetGuarded(server, client *tls.Config) meeting {
	a, b := memnet.Pipe()
	return shake(a, identity.Guard(b), server, client)
}

func shake(a, b net.Conn, server, client *tls.Config) meeting {
	s, c := tls.Server(b, server), tls.Client(a, client)
	var m meeting
	done := make(chan struct{})
	go func() {
		defer close(done)
		if m.serverErr = s.Handshake(); m.serverErr == nil {
			_, m.serverErr = s.Write([]byte{1})
		}
		m.server = s.ConnectionState()
		if m.serverErr != nil {
			s.Close()
		}
	}()
	if m.clientErr = c.Handshake(); m.clientErr == nil {
		_, m.clientErr = c.Read(make([]byte, 1))
	}
	m.client = c.ConnectionState()
	<-done
	a.Close()
	b.Close()
	return m
}

// clientSource opens a client's identity from files.
func clientSource(t *testing.T, f identitytest.Files) *identity.ClientSource {
	t.Helper()
	s, err := identity.OpenClient(identity.ClientOptions{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, Sessions: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestClientIsIdentified(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	m := meet(source.ServerConfig(identity.ClientSide), clientSource(t, pki.ClientFiles("orders")).Config("localhost"))
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	p, err := source.Peer(m.server)
	if err != nil {
		t.Fatal(err)
	}
	if p.Principal != "spiffe://test.example/client/orders" || p.Role != identity.RoleClient || p.Resumed || !p.PostQuantum {
		t.Errorf("%+v", p)
	}
}

// TestT14T15Roles crosses roles and listeners.
func TestT14T15Roles(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	client, broker := pki.ClientConfig(pki.Client("orders")), pki.ClientConfig(pki.Broker("n2"))
	for name, c := range map[string]struct {
		config *tls.Config
		side   identity.Side
		inTLS  bool
		reason identity.Reason
	}{
		"client on client port": {client, identity.ClientSide, false, ""},
		"broker on client port": {broker, identity.ClientSide, false, identity.ReasonRole},
		"client on peer port":   {client, identity.PeerSide, true, identity.ReasonUsage},
		"broker on peer port":   {broker, identity.PeerSide, false, ""},
		"client on https port":  {client, identity.AdminSide, false, ""},
		"broker on https port":  {broker, identity.AdminSide, false, ""},
	} {
		config := c.config.Clone()
		config.NextProtos = map[identity.Side][]string{identity.ClientSide: {identity.ALPNClient}, identity.PeerSide: {identity.ALPNPeer}, identity.AdminSide: {"h2"}}[c.side]
		m := meet(source.ServerConfig(c.side), config)
		if (m.serverErr != nil) != c.inTLS {
			t.Errorf("%s: handshake: %v", name, m.serverErr)
			continue
		}
		err := m.serverErr
		if err == nil {
			_, err = source.Peer(m.server)
		}
		var refused *identity.RefusedError
		if errors.As(err, &refused); c.reason == "" && err != nil || c.reason != "" && (refused == nil || refused.Reason != c.reason) {
			t.Errorf("%s: %v, want reason %q", name, err, c.reason)
		}
	}
}

// TestT18ClientRefusesWrongServers offers servers that a client must not believe.
func TestT18ClientRefusesWrongServers(t *testing.T) {
	pki, stranger := identitytest.New(t), identitytest.New(t)
	client := clientSource(t, pki.ClientFiles("orders"))
	for name, c := range map[string]struct {
		cert *ca.Issued
		host string
	}{
		"another CA":                {stranger.Broker("n1"), "localhost"},
		"another host":              {pki.Broker("n1"), "broker.example"},
		"a client posing as broker": {pki.Must(ca.Request{Name: "orders", DNS: []string{"localhost"}}), "localhost"},
		"IP not in certificate":     {pki.Must(ca.Request{Name: "n1", Role: identity.RoleBroker, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}), "127.0.0.1"},
	} {
		server := &tls.Config{Certificates: []tls.Certificate{c.cert.TLS()}, NextProtos: []string{identity.ALPNClient}}
		m := meet(server, client.Config(c.host))
		if m.clientErr == nil {
			t.Errorf("%s: the client believed it", name)
			continue
		}
		if e := identity.Explain(m.clientErr); e == nil || e.What == "" || e.Next == "" {
			t.Errorf("%s: no explanation for %v", name, m.clientErr)
		}
	}
}
