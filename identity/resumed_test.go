package identity_test

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// TestT07RulesAreInVerifyConnection: the rules of a listener hang where a resumed handshake passes, and not in
// VerifyPeerCertificate, which it skips. The state of a connection that was resumed is good for the source that it met and
// refused by one with other roots.
func TestT07RulesAreInVerifyConnection(t *testing.T) {
	pki, other := identitytest.New(t), identitytest.New(t)
	source, stranger := pki.Source("n1"), other.Source("n1")
	client := clientSource(t, pki.ClientFiles("orders"))
	var m meeting
	for range 2 {
		if m = meet(source.ServerConfig(identity.ClientSide), client.Config("localhost")); m.serverErr != nil {
			t.Fatal(m.serverErr)
		}
	}
	if !m.server.DidResume {
		t.Fatal("not resumed: the test proves nothing")
	}
	for _, side := range []identity.Side{identity.ClientSide, identity.PeerSide, identity.AdminSide} {
		for _, s := range []*identity.Source{source, stranger} {
			conf, err := s.ServerConfig(side).GetConfigForClient(nil)
			if err != nil || conf.VerifyConnection == nil || conf.VerifyPeerCertificate != nil {
				t.Fatalf("%v: rules in VerifyConnection %t, in VerifyPeerCertificate %t, %v", side, conf.VerifyConnection != nil, conf.VerifyPeerCertificate != nil, err)
			}
			state := m.server
			state.NegotiatedProtocol = conf.NextProtos[0]
			var refused *identity.RefusedError
			err = conf.VerifyConnection(state)
			if good := s == source && side != identity.PeerSide; good != (err == nil) || err != nil && !errors.As(err, &refused) {
				t.Errorf("%v, known roots %t: %v", side, s == source, err)
			}
		}
	}
}

// TestT14ClientWithBothUsages: a client's certificate is no node's, even if its CA gave it the usages of one.
func TestT14ClientWithBothUsages(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	parent, parentKey := pki.Signer()
	cert := identitytest.Mint(t, identitytest.Odd{URIs: []string{ordersID}, Parent: parent, ParentKey: parentKey,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
	for side, ok := range map[identity.Side]bool{identity.ClientSide: true, identity.PeerSide: false} {
		conf, err := source.ServerConfig(side).GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		client := pki.ClientConfig(nil, conf.NextProtos...)
		client.Certificates = append(client.Certificates, cert)
		m := meet(source.ServerConfig(side), client)
		var refused *identity.RefusedError
		if ok != (m.serverErr == nil) || !ok && (!errors.As(m.serverErr, &refused) || refused.Reason != identity.ReasonRole) {
			t.Errorf("%v: %v", side, m.serverErr)
		}
	}
}
