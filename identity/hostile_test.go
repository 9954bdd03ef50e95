package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// authority is a CA certificate with its key, of any shape.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

// authorityOf makes a CA below another (nil = a root). key nil = a new one.
func authorityOf(t testing.TB, name string, parent *authority, key crypto.Signer, change func(*x509.Certificate)) *authority {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	o := identitytest.Odd{IsCA: true, Key: key, Subject: pkix.Name{CommonName: name}, NoUsages: true, Change: change}
	if parent != nil {
		o.Parent, o.ParentKey = parent.cert, parent.key
	}
	return &authority{t, identitytest.Mint(t, o).Leaf, key}
}

// leaf issues a client certificate and presents it with a chain.
func (a *authority) leaf(o identitytest.Odd, chain ...*authority) tls.Certificate {
	a.t.Helper()
	o.Parent, o.ParentKey = a.cert, a.key
	if o.URIs == nil {
		o.URIs = []string{ordersID}
	}
	c := identitytest.Mint(a.t, o)
	c.Certificate = c.Certificate[:1]
	for _, link := range chain {
		c.Certificate = append(c.Certificate, link.cert.Raw)
	}
	return c
}

func pemOf(kind string, ders ...[]byte) (text []byte) {
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return text
}

// sourceBelow opens a node whose certificate comes from an authority that is a root of it; more roots may be trusted.
func sourceBelow(t testing.TB, root *authority, crl []byte, more ...*authority) *identity.Source {
	t.Helper()
	node := root.leaf(identitytest.Odd{URIs: []string{"spiffe://test.example/broker/n1"}, DNS: []string{"localhost"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
	key, err := x509.MarshalPKCS8PrivateKey(node.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := [][]byte{root.cert.Raw}
	for _, a := range more {
		roots = append(roots, a.cert.Raw)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	o := identity.Options{TrustDomain: "test.example", CertFile: write("n1.crt", pemOf("CERTIFICATE", node.Certificate...)), KeyFile: write("n1.key", pemOf("PRIVATE KEY", key)), CAFile: write("roots.crt", pemOf("CERTIFICATE", roots...))}
	if crl != nil {
		o.CRLFile = write("crl.pem", crl)
	}
	s, err := identity.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// presentTo shakes hands with the bound on bytes, and says what the broker makes of it.
func presentTo(source *identity.Source, cert *tls.Certificate) (identity.Peer, error) {
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{identity.ALPNClient},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}
	m := meetGuarded(source.ServerConfig(identity.ClientSide), conf)
	if m.serverErr != nil {
		return identity.Peer{}, m.serverErr
	}
	return source.Peer(m.server)
}

// TestT10Chains presents chains that lead to the root by ways that it did not mean.
func TestT10Chains(t *testing.T) {
	root, stranger := authorityOf(t, "root", nil, nil, nil), authorityOf(t, "stranger", nil, nil, nil)
	impostor := authorityOf(t, "root", nil, nil, nil) // another key under the same name
	good := authorityOf(t, "issuing", root, nil, nil)
	crossed := authorityOf(t, "crossed", root, nil, nil) // one key, certified by both
	crossedByStranger := authorityOf(t, "crossed", stranger, crossed.key, nil)
	only := func(hosts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = hosts, true
		}
	}
	elsewhere := authorityOf(t, "elsewhere", root, nil, only("other.example"))
	here := authorityOf(t, "here", root, nil, only("test.example"))
	notHere := authorityOf(t, "not here", root, nil, func(c *x509.Certificate) {
		c.ExcludedURIDomains, c.PermittedDNSDomainsCritical = []string{"test.example"}, true
	})
	short := authorityOf(t, "short", root, nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	below := authorityOf(t, "below", short, nil, nil)
	noCA := authorityOf(t, "no CA", root, nil, func(c *x509.Certificate) { c.IsCA = false })
	noSign := authorityOf(t, "no sign", root, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	old := authorityOf(t, "old", root, nil, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	serverOnly := authorityOf(t, "server only", root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := authorityOf(t, "weak", root, weakKey, nil)
	var plain identitytest.Odd
	source := sourceBelow(t, root, nil)
	for name, c := range map[string]struct {
		cert tls.Certificate
		want identity.Reason // "" = accepted
	}{
		"one intermediate":                    {good.leaf(plain, good), ""},
		"constrained to this trust domain":    {here.leaf(plain, here), ""},
		"cross-signed, by the trusted root":   {crossed.leaf(plain, crossed), ""},
		"cross-signed, both presented":        {crossed.leaf(plain, crossedByStranger, crossed), ""},
		"cross-signed, by a stranger only":    {crossed.leaf(plain, crossedByStranger, stranger), identity.ReasonUntrusted},
		"intermediate not presented":          {good.leaf(plain), identity.ReasonUntrusted},
		"constrained to another trust domain": {elsewhere.leaf(plain, elsewhere), identity.ReasonUntrusted},
		"this trust domain excluded":          {notHere.leaf(plain, notHere), identity.ReasonUntrusted},
		"a root of the same name":             {impostor.leaf(plain, impostor), identity.ReasonUntrusted},
		"below a root of the same name":       {authorityOf(t, "issuing", impostor, nil, nil).leaf(plain, good, impostor), identity.ReasonUntrusted},
		"too many levels":                     {below.leaf(plain, below, short), identity.ReasonUntrusted},
		"an issuer that is no CA":             {noCA.leaf(plain, noCA), identity.ReasonUntrusted},
		"an issuer that may not sign":         {noSign.leaf(plain, noSign), identity.ReasonUntrusted},
		"an issuer that has expired":          {old.leaf(plain, old), identity.ReasonUntrusted},
		"an issuer for servers only":          {serverOnly.leaf(plain, serverOnly), identity.ReasonUntrusted},
		"an issuer with a weak key":           {weak.leaf(plain, weak), identity.ReasonWeakKey},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := presentTo(source, &c.cert)
			if (err == nil) != (c.want == "") || err == nil && p.Principal != ordersID {
				t.Errorf("%q, %v; want %q", p.Principal, err, c.want)
			}
		})
	}
	// Two trusted roots of one name: each vouches for its own.
	both := sourceBelow(t, root, nil, impostor)
	for name, cert := range map[string]tls.Certificate{"first": good.leaf(plain, good), "second": impostor.leaf(plain)} {
		if _, err := presentTo(both, &cert); err != nil {
			t.Errorf("%s of two roots with one name: %v", name, err)
		}
	}
}

// TestT06RevokedIssuer revokes an intermediate, by key, by serial and by a list of the root: all below it is refused, also
// what was verified before, and what is below another is not.
func TestT06RevokedIssuer(t *testing.T) {
	root := authorityOf(t, "root", nil, nil, nil)
	bad, good := authorityOf(t, "bad", root, nil, nil), authorityOf(t, "good", root, nil, nil)
	badLeaf, goodLeaf := bad.leaf(identitytest.Odd{}, bad), good.leaf(identitytest.Odd{}, good)
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: bad.cert.SerialNumber, RevocationTime: time.Now()}}}, root.cert, root.key)
	if err != nil {
		t.Fatal(err)
	}
	check := func(how string, source *identity.Source) {
		t.Helper()
		var refused *identity.RefusedError
		if _, err := presentTo(source, &badLeaf); !errors.As(err, &refused) || refused.Reason != identity.ReasonRevoked {
			t.Errorf("%s: below a revoked issuer: %v", how, err)
		}
		if _, err := presentTo(source, &goodLeaf); err != nil {
			t.Errorf("%s: below another issuer: %v", how, err)
		}
	}
	check("by a list", sourceBelow(t, root, pemOf("X509 CRL", list)))
	for how, r := range map[string]identity.Revocations{
		"by key":    {SPKI: map[[32]byte]struct{}{identity.SPKIHash(bad.cert): {}}},
		"by serial": {Serials: map[identity.SerialKey]struct{}{{Issuer: bad.cert.Issuer.String(), Serial: identity.SerialText(bad.cert.SerialNumber)}: {}}},
	} {
		source := sourceBelow(t, root, nil)
		live, err := presentTo(source, &badLeaf)
		if err != nil {
			t.Fatal(err)
		}
		source.SetRevocations(r)
		if err := source.Recheck(&live); err == nil {
			t.Errorf("%s: a live connection goes on", how)
		}
		check(how, source)
	}
	// A crossed intermediate: one of its two certificates is revoked, and the other still vouches.
	second := authorityOf(t, "second root", nil, nil, nil)
	again := authorityOf(t, "bad", second, bad.key, nil)
	twice := bad.leaf(identitytest.Odd{}, bad, again)
	if _, err := presentTo(sourceBelow(t, root, pemOf("X509 CRL", list), second), &twice); err != nil {
		t.Errorf("by a way that is not revoked: %v", err)
	}
}

// bombs are certificates that would cost a lot to look at.
func bombs(t testing.TB, root *authority) map[string]tls.Certificate {
	plain := identitytest.Odd{}
	short := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("%x", i))
		}
		return names
	}
	deep := []*authority{}
	for last, i := root, 0; i < 200; i++ {
		last = authorityOf(t, "x", last, nil, nil)
		deep = append([]*authority{last}, deep...)
	}
	// Ten keys that all certify each other under one name: the ways through them are many.
	web := []*authority{authorityOf(t, "w", nil, nil, nil)}
	for range 9 {
		web = append(web, authorityOf(t, "w", web[0], nil, nil))
	}
	all := append([]*authority(nil), web...)
	for _, a := range web[1:] {
		for _, b := range web[1:] {
			all = append(all, authorityOf(t, "w", a, b.key, nil))
		}
	}
	constrained := authorityOf(t, "c", root, nil, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = short(4000), true
	})
	modulus := new(big.Int).Lsh(big.NewInt(1), 16383)
	return map[string]tls.Certificate{
		"256 KiB of names":        root.leaf(identitytest.Odd{DNS: strings.Split(strings.Repeat(strings.Repeat("a", 60)+".b,", 4000)+"a", ",")}),
		"10,000 SANs":             root.leaf(identitytest.Odd{DNS: short(10_000)}),
		"10,000 URIs":             root.leaf(identitytest.Odd{URIs: []string{}, Extra: []pkix.Extension{identitytest.SANExtension(strings.Split(strings.Repeat("a:b ", 9_999)+"a:b", " ")...)}}),
		"300 SANs":                root.leaf(identitytest.Odd{DNS: short(300)}),
		"200 intermediates":       deep[0].leaf(plain, deep...),
		"90 intermediates":        deep[0].leaf(plain, deep[:90]...),
		"a web of intermediates":  web[9].leaf(plain, all...),
		"name constraints":        constrained.leaf(identitytest.Odd{DNS: short(4000)}, constrained),
		"untrusted constraints":   authorityOf(t, "u", nil, nil, func(c *x509.Certificate) { c.PermittedDNSDomains = short(4000) }).leaf(identitytest.Odd{DNS: short(4000)}),
		"RSA with 16,384 bits":    root.leaf(identitytest.Odd{Key: fakeSigner{&rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(1)), E: 65537}}}),
		"RSA with 8,192 bits":     root.leaf(identitytest.Odd{Key: fakeSigner{&rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 8191), big.NewInt(1)), E: 65537}}}),
		"RSA, exponent of 2^31-1": root.leaf(identitytest.Odd{Key: fakeSigner{&rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 8191), big.NewInt(1)), E: 1<<31 - 1}}}),
	}
}

// fakeSigner stands for a key that nobody has computed: what counts is what the broker does with the certificate.
type fakeSigner struct{ public crypto.PublicKey }

func (f fakeSigner) Public() crypto.PublicKey { return f.public }

func (f fakeSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, f.public.(*rsa.PublicKey).Size()), nil
}

// TestT12Bombs presents them: each is refused. BenchmarkT12Bombs says what each costs.
func TestT12Bombs(t *testing.T) {
	root := authorityOf(t, "root", nil, nil, nil)
	source := sourceBelow(t, root, nil)
	for name, cert := range bombs(t, root) {
		if p, err := presentTo(source, &cert); err == nil {
			t.Errorf("%s: accepted as %s", name, p.Principal)
		} else {
			t.Logf("%s: %.200v", name, err)
		}
	}
	good := root.leaf(identitytest.Odd{})
	if _, err := presentTo(source, &good); err != nil {
		t.Errorf("after them: %v", err)
	}
}

// BenchmarkT12Bombs is a whole handshake of both ends with each of them, beside a good certificate. The floor: 50 ms.
func BenchmarkT12Bombs(b *testing.B) {
	root := authorityOf(b, "root", nil, nil, nil)
	source := sourceBelow(b, root, nil)
	certs := bombs(b, root)
	certs["good"] = root.leaf(identitytest.Odd{})
	for name, cert := range certs {
		b.Run(strings.ReplaceAll(name, ",", ""), func(b *testing.B) {
			for b.Loop() {
				presentTo(source, &cert)
			}
		})
	}
}

// TestMappedNames gives rules names that no identity may have, and several where one is meant.
func TestMappedNames(t *testing.T) {
	pki := identitytest.New(t)
	parent, parentKey := pki.Signer()
	f := pki.Save("n1", pki.Broker("n1"))
	source, err := identity.Open(identity.Options{TrustDomain: identitytest.TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA,
		Rules: []identity.Rule{{From: "dns", Match: "*.clients.example"}, {From: "cn", Match: "legacy"}}})
	if err != nil {
		t.Fatal(err)
	}
	twoNames := func(first, second string) pkix.Name {
		return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: first}, {Type: []int{2, 5, 4, 3}, Value: second}}}
	}
	for name, c := range map[string]struct {
		odd  identitytest.Odd
		want string
		why  identity.Reason
	}{
		"common name":               {identitytest.Odd{Subject: pkix.Name{CommonName: "legacy"}}, "cn:legacy", ""},
		"common name, second":       {identitytest.Odd{Subject: twoNames("somebody", "legacy")}, "cn:legacy", ""},
		"common name, twice":        {identitytest.Odd{Subject: twoNames("legacy", "legacy")}, "", identity.ReasonAmbiguous},
		"a wildcard certificate":    {identitytest.Odd{DNS: []string{"*.clients.example"}}, "", identity.ReasonBadIdentity},
		"a wildcard beside a name":  {identitytest.Odd{DNS: []string{"a.clients.example", "*.clients.example"}}, "", identity.ReasonAmbiguous},
		"a pattern's character":     {identitytest.Odd{DNS: []string{">.clients.example"}}, "", identity.ReasonBadIdentity},
		"a slash":                   {identitytest.Odd{DNS: []string{"a/b.clients.example"}}, "", identity.ReasonBadIdentity},
		"braces":                    {identitytest.Odd{DNS: []string{"{name}.clients.example"}}, "", identity.ReasonBadIdentity},
		"a line break":              {identitytest.Odd{DNS: []string{"a\nb.clients.example"}}, "", identity.ReasonBadIdentity},
		"a suffix without its dot":  {identitytest.Odd{DNS: []string{"aclients.example"}}, "", identity.ReasonNoIdentity},
		"case is not folded":        {identitytest.Odd{DNS: []string{"a.Clients.example"}}, "", identity.ReasonNoIdentity},
		"a trailing dot is another": {identitytest.Odd{DNS: []string{"a.clients.example."}}, "", identity.ReasonNoIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			c.odd.Parent, c.odd.ParentKey = parent, parentKey
			cert, err := identitytest.TryMint(c.odd)
			if err != nil {
				t.Fatalf("x509 does not read it: %v", err)
			}
			m := present(source, pki, &cert, identity.ALPNClient)
			p, err := source.Peer(m.server)
			var refused *identity.RefusedError
			if string(p.Principal) != c.want || c.why != "" && (!errors.As(err, &refused) || refused.Reason != c.why) {
				t.Errorf("%q, %v; want %q %s", p.Principal, err, c.want, c.why)
			}
		})
	}
	for _, match := range []string{"a b", "*.a/b", "x>", "ö"} {
		if err := (identity.Rule{From: "dns", Match: match}).Check(); err == nil {
			t.Errorf("a rule for %q was accepted", match)
		}
	}
}
