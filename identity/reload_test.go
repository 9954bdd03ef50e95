package identity_test

import (
	"os"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// openSource opens a source on files that the test may change.
func openSource(t *testing.T, pki *identitytest.PKI) (*identity.Source, identitytest.Files) {
	t.Helper()
	f := pki.Save("n1", pki.Broker("n1"))
	s, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA})
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// TestReloadGoodAndBad changes files under a running source.
func TestReloadGoodAndBad(t *testing.T) {
	pki, other := identitytest.New(t), identitytest.New(t)
	source, f := openSource(t, pki)
	first := source.Status()
	if err := source.Reload(); err != nil || source.Status().Generation != first.Generation {
		t.Errorf("a reload of the same files: %v, generation %d", err, source.Status().Generation)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(name string, b []byte) {
		if err := ca.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := read(f.CA)
	stranger := other.Broker("n1")
	client := pki.Client("orders")
	for name, bad := range map[string]struct {
		file string
		text []byte
		want string
	}{
		"empty":                  {f.Cert, nil, "no certificate"},
		"garbage":                {f.Cert, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1"},
		"another key's":          {f.Cert, pki.Broker("n1").CertPEM, "not the key"},
		"no key":                 {f.Key, []byte("nothing"), "no private key"},
		"encrypted key":          {f.Key, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "openssl pkey"},
		"roots of somebody else": {f.CA, other.RootsPEM(), "does not lead to"},
	} {
		before := read(bad.file)
		write(bad.file, bad.text)
		if err := source.Reload(); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want %q", name, err, bad.want)
		}
		if source.Status().LastError == nil || source.Status().Generation != first.Generation {
			t.Errorf("%s: status %+v", name, source.Status())
		}
		write(bad.file, before)
		if m := meet(source.ServerConfig(identity.ClientSide), clientSource(t, pki.ClientFiles("orders")).Config("localhost")); m.clientErr != nil || m.serverErr != nil {
			t.Errorf("%s: what was loaded before is not in use: %v, %v", name, m.clientErr, m.serverErr)
		}
	}
	// New roots beside the old ones, and a certificate below them: the generation rises, both ends agree.
	changed, cancel := source.Changed()
	defer cancel()
	write(f.CA, append(append([]byte(nil), roots...), other.RootsPEM()...))
	write(f.Key, stranger.KeyPEM)
	write(f.Cert, stranger.CertPEM)
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	<-changed
	if source.Status().Generation == first.Generation {
		t.Error("new roots kept the generation")
	}
	// The old root goes: a live connection below it must end.
	clientCert := client.TLS()
	m := present(source, other, &clientCert, identity.ALPNClient)
	peer, err := source.Peer(m.server)
	if err != nil {
		t.Fatal(err)
	}
	write(f.CA, other.RootsPEM())
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := source.Recheck(&peer); err == nil {
		t.Error("a connection survives that its issuer is no longer trusted")
	}
}

// TestKeyModes refuses a key that everybody can read, and says what to run.
func TestKeyModes(t *testing.T) {
	pki := identitytest.New(t)
	f := pki.Save("n1", pki.Broker("n1"))
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o400: true, 0o644: false, 0o604: false, 0o601: false} {
		if err := os.Chmod(f.Key, mode); err != nil {
			t.Fatal(err)
		}
		_, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "chmod 600 "+f.Key) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// TestRules map certificates without URI SAN, exactly one name each.
func TestRules(t *testing.T) {
	pki := identitytest.New(t)
	parent, parentKey := pki.Signer()
	f := pki.Save("n1", pki.Broker("n1"))
	source, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA,
		Rules: []identity.Rule{{From: "dns", Match: "*.clients.example"}, {From: "email", Match: "ops@example.org"}, {From: "cn", Match: "legacy"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		odd  identitytest.Odd
		want string // principal, or "" and the reason
		why  identity.Reason
	}{
		"dns":                         {identitytest.Odd{DNS: []string{"a.clients.example", "other.example"}}, "dns:a.clients.example", ""},
		"two dns":                     {identitytest.Odd{DNS: []string{"a.clients.example", "b.clients.example"}}, "", identity.ReasonAmbiguous},
		"one label only":              {identitytest.Odd{DNS: []string{"a.b.clients.example"}}, "", identity.ReasonNoIdentity},
		"email":                       {identitytest.Odd{Emails: []string{"ops@example.org"}}, "email:ops@example.org", ""},
		"email case":                  {identitytest.Odd{Emails: []string{"Ops@example.org"}}, "", identity.ReasonNoIdentity},
		"first rule wins":             {identitytest.Odd{DNS: []string{"a.clients.example"}, Emails: []string{"ops@example.org"}}, "dns:a.clients.example", ""},
		"a URI SAN comes first":       {identitytest.Odd{URIs: []string{ordersID}, DNS: []string{"a.clients.example"}}, ordersID, ""},
		"a bad URI SAN is not mapped": {identitytest.Odd{URIs: []string{"https://x"}, DNS: []string{"a.clients.example"}}, "", identity.ReasonBadIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			c.odd.Parent, c.odd.ParentKey = parent, parentKey
			cert := identitytest.Mint(t, c.odd)
			m := present(source, pki, &cert, identity.ALPNClient)
			p, err := source.Peer(m.server)
			if string(p.Principal) != c.want || (err == nil) != (c.why == "") {
				t.Errorf("%q, %v; want %q %s", p.Principal, err, c.want, c.why)
			}
		})
	}
	if _, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, Rules: []identity.Rule{{From: "dns", Match: "a*.x"}, {From: "shoe", Match: "x"}}}); err == nil || !strings.Contains(err.Error(), "rule 1") || !strings.Contains(err.Error(), "rule 2") {
		t.Errorf("bad rules: %v", err)
	}
}

func TestCheckGODEBUG(t *testing.T) {
	for value, ok := range map[string]bool{"": true, "http2client=0": true, "fips140=on": true, "tls10server=1": false, "a=b, tlsrsakex=1": false, "x509usepolicies=0": false} {
		if err := identity.CheckGODEBUG(value); (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// FuzzParseID: no text is accepted in two spellings, and none with a character that a policy would read.
func FuzzParseID(f *testing.F) {
	seeds := []string{ordersID, "spiffe://test.example/broker/n1", "spiffe://test.example/ns/a/sa/b", "spiffe://test.example/", "SPIFFE://test.example/x", "spiffe://test.example/a%2fb", "spiffe://test.example/..", ""}
	if len(seeds) < 8 {
		f.Fatal("seeds are missing")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseID(s, "test.example")
		if err != nil {
			return
		}
		if string(id.Principal) != s || strings.ContainsAny(s, "*>{}%?#@\\ \x00") || strings.Contains(s+"/", "/../") || strings.HasSuffix(s, "/") || !strings.HasPrefix(s, "spiffe://test.example/") {
			t.Errorf("%q is accepted as %q", s, id.Principal)
		}
		if (id.Role == identity.RoleBroker) != strings.HasPrefix(s, "spiffe://test.example/broker/") {
			t.Errorf("%q has role %v", s, id.Role)
		}
	})
}
