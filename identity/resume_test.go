package identity_test

import (
	"crypto/tls"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// returning is a client that keeps its TLS sessions, and checks nothing of the broker.
type returning struct {
	t         *testing.T
	config    *tls.Config
	listeners map[listener]*tls.Config // one each, as in a broker: ticket keys of Go's own would live in it
}

type listener struct {
	source *identity.Source
	side   identity.Side
}

func newReturning(t *testing.T, cert tls.Certificate) *returning {
	return &returning{t: t, listeners: map[listener]*tls.Config{}, config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{identity.ALPNClient}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }, ServerName: "localhost"}}
}

// visit shakes hands with a listener; resumed is what both ends must say of it.
func (r *returning) visit(source *identity.Source, side identity.Side, alpn string, resumed bool) (identity.Peer, error) {
	r.t.Helper()
	conf := r.config.Clone()
	conf.NextProtos = []string{alpn}
	at := listener{source, side}
	if r.listeners[at] == nil {
		r.listeners[at] = source.ServerConfig(side)
	}
	m := meet(r.listeners[at], conf)
	if m.serverErr != nil {
		return identity.Peer{}, m.serverErr
	}
	if m.server.DidResume != resumed || m.client.DidResume != resumed {
		r.t.Errorf("resumed %v and %v, want %v", m.client.DidResume, m.server.DidResume, resumed)
	}
	p, err := source.Peer(m.server)
	if p.Resumed != resumed {
		r.t.Errorf("the broker sees resumed %v, want %v", p.Resumed, resumed)
	}
	return p, err
}

// come visits the client port twice: the second time resumes.
func (r *returning) come(source *identity.Source) {
	r.t.Helper()
	for i := range 2 {
		if _, err := r.visit(source, identity.ClientSide, identity.ALPNClient, i > 0); err != nil {
			r.t.Fatal(err)
		}
	}
}

func reasonOf(err error) identity.Reason {
	var refused *identity.RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

// TestT07Resumption saves a session, changes one thing, and comes back: what raises the generation of the tickets sends
// the client through a full handshake, and there every rule holds again.
func TestT07Resumption(t *testing.T) {
	pki, other := identitytest.New(t), identitytest.New(t)
	files := pki.Save("n1", pki.Broker("n1"))
	cert := pki.Client("orders").TLS()
	open := func(rules ...identity.Rule) *identity.Source {
		s, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: files.Cert, KeyFile: files.Key, CAFile: files.CA, Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	roots := func(texts ...[]byte) {
		var all []byte
		for _, text := range texts {
			all = append(all, text...)
		}
		if err := os.WriteFile(files.CA, all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(s *identity.Source) {
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	of := func(who string) identity.Revocations {
		return identity.Revocations{Identities: map[identity.Principal]struct{}{identity.Principal(who): {}}}
	}
	for name, c := range map[string]struct {
		change  func(s *identity.Source)
		resumed bool
		want    identity.Reason
	}{
		"nothing":             {func(*identity.Source) {}, true, ""},
		"a day passes":        {func(s *identity.Source) { s.RotateTickets() }, true, ""},
		"two days pass":       {func(s *identity.Source) { s.RotateTickets(); s.RotateTickets() }, false, ""},
		"it is revoked":       {func(s *identity.Source) { s.SetRevocations(of(ordersID)) }, false, identity.ReasonRevoked},
		"another is revoked":  {func(s *identity.Source) { s.SetRevocations(of("spiffe://test.example/client/x")) }, false, ""},
		"revoked, then a day": {func(s *identity.Source) { s.SetRevocations(of(ordersID)); s.RotateTickets() }, false, identity.ReasonRevoked},
		"a root comes":        {func(s *identity.Source) { roots(pki.RootsPEM(), other.RootsPEM()); reload(s) }, false, ""},
		"certificate renewed": {func(s *identity.Source) {
			pki.Save("n1", pki.Broker("n1"))
			reload(s)
		}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			roots(pki.RootsPEM())
			s, client := open(), newReturning(t, cert)
			client.come(s)
			c.change(s)
			if _, err := client.visit(s, identity.ClientSide, identity.ALPNClient, c.resumed); reasonOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Run("its root goes", func(t *testing.T) {
		roots(pki.RootsPEM(), other.RootsPEM())
		s, stranger := open(), newReturning(t, other.Client("orders").TLS())
		stranger.come(s)
		roots(pki.RootsPEM())
		reload(s)
		if _, err := stranger.visit(s, identity.ClientSide, identity.ALPNClient, false); err == nil {
			t.Error("accepted without a root")
		}
	})
	t.Run("identity rules change", func(t *testing.T) { // which takes a restart
		roots(pki.RootsPEM())
		parent, key := pki.Signer()
		legacy := newReturning(t, identitytest.Mint(t, identitytest.Odd{Parent: parent, ParentKey: key, DNS: []string{"a.example", "b.example"}}))
		legacy.come(open(identity.Rule{From: "dns", Match: "a.example"}))
		if p, err := legacy.visit(open(identity.Rule{From: "dns", Match: "b.example"}), identity.ClientSide, identity.ALPNClient, false); err != nil || p.Principal != "dns:b.example" {
			t.Errorf("%q, %v", p.Principal, err)
		}
		if _, err := legacy.visit(open(), identity.ClientSide, identity.ALPNClient, false); reasonOf(err) != identity.ReasonNoIdentity {
			t.Errorf("without rules: %v", err)
		}
	})
	t.Run("at another listener", func(t *testing.T) {
		roots(pki.RootsPEM())
		s, client, node := open(), newReturning(t, cert), newReturning(t, pki.Broker("n2").TLS())
		client.come(s)
		if p, err := client.visit(s, identity.AdminSide, "h2", false); err != nil || p.Principal != ordersID {
			t.Errorf("https: %q, %v", p.Principal, err)
		}
		if _, err := client.visit(s, identity.PeerSide, identity.ALPNPeer, false); err == nil {
			t.Error("a client's ticket opened the peer port")
		}
		if _, err := node.visit(s, identity.ClientSide, identity.ALPNClient, false); reasonOf(err) != identity.ReasonRole {
			t.Errorf("a node on the client port: %v", err)
		}
		for range 2 { // neither the client port's ticket nor one of its own
			if p, err := node.visit(s, identity.PeerSide, identity.ALPNPeer, false); err != nil || p.Node != "n2" {
				t.Errorf("peer port: %q, %v", p.Node, err)
			}
		}
	})
}

// TestT07ExpiredTicket lets the certificate end while its ticket still lives.
func TestT07ExpiredTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pki := identitytest.New(t)
		source := pki.Source("n1")
		client := newReturning(t, pki.Must(ca.Request{Name: "orders", TTL: time.Hour}).TLS())
		client.come(source)
		time.Sleep(time.Hour - time.Minute)
		if _, err := client.visit(source, identity.ClientSide, identity.ALPNClient, true); err != nil {
			t.Errorf("just before the end: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := client.visit(source, identity.ClientSide, identity.ALPNClient, false); err == nil {
			t.Error("a ticket outlived its certificate")
		}
	})
}
