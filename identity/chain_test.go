package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

const ordersID = "spiffe://test.example/client/orders"

// present shakes hands with a certificate that nothing on the client side has checked.
func present(source *identity.Source, pki *identitytest.PKI, cert *tls.Certificate, alpn ...string) meeting {
	conf := pki.ClientConfig(nil, alpn...)
	if cert != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return meet(source.ServerConfig(identity.ClientSide), conf)
}

func key(t *testing.T, make func() (crypto.Signer, error)) crypto.Signer {
	t.Helper()
	k, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestT01T02Chains presents certificates whose chain, usage or key is wrong: each ends in TLS.
func TestT01T02Chains(t *testing.T) {
	pki, other := identitytest.New(t), identitytest.New(t)
	source := pki.Source("n1")
	parent, parentKey := pki.Signer()
	otherParent, otherKey := other.Signer()
	good := identitytest.Odd{URIs: []string{ordersID}, Parent: parent, ParentKey: parentKey}
	curve := func(c elliptic.Curve) crypto.Signer {
		return key(t, func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) })
	}
	rsaKey := func(bits int) crypto.Signer {
		return key(t, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) })
	}
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*identitytest.Odd)
		ok     bool
	}{
		"good":     {func(*identitytest.Odd) {}, true},
		"P-384":    {func(o *identitytest.Odd) { o.Key = curve(elliptic.P384()) }, true},
		"RSA 2048": {func(o *identitytest.Odd) { o.Key = rsaKey(2048) }, true},
		"Ed25519": {func(o *identitytest.Odd) {
			o.Key = key(t, func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(nil); return k, err })
		}, true},
		"expired":       {func(o *identitytest.Odd) { o.NotBefore, o.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }, false},
		"not yet valid": {func(o *identitytest.Odd) { o.NotBefore, o.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour) }, false},
		"another CA":    {func(o *identitytest.Odd) { o.Parent, o.ParentKey = otherParent, otherKey }, false},
		"self-signed":   {func(o *identitytest.Odd) { o.Parent, o.ParentKey = nil, nil }, false},
		"right name, wrong CA": {func(o *identitytest.Odd) {
			impostor := *otherParent
			impostor.RawSubject, impostor.Subject = parent.RawSubject, parent.Subject
			o.Parent, o.ParentKey = &impostor, otherKey
		}, false},
		"no usage":        {func(o *identitytest.Odd) { o.NoUsages = true }, false},
		"serverAuth only": {func(o *identitytest.Odd) { o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		"any usage":       {func(o *identitytest.Odd) { o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, false},
		"any and client": {func(o *identitytest.Odd) {
			o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageAny}
		}, false},
		"CA certificate":    {func(o *identitytest.Odd) { o.IsCA = true }, false},
		"P-224":             {func(o *identitytest.Odd) { o.Key = curve(elliptic.P224()) }, false},
		"P-521":             {func(o *identitytest.Odd) { o.Key = curve(elliptic.P521()) }, false},
		"RSA 1024":          {func(o *identitytest.Odd) { o.Key = rsaKey(1024) }, false},
		"signed with SHA-1": {func(o *identitytest.Odd) { o.Algorithm = x509.ECDSAWithSHA1 }, false},
		"key may sign certificates": {func(o *identitytest.Odd) {
			o.Change = func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }
		}, false},
		"key may sign lists": {func(o *identitytest.Odd) {
			o.Change = func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			cert := identitytest.Mint(t, o)
			m := present(source, pki, &cert, identity.ALPNClient)
			if (m.serverErr == nil) != c.ok {
				t.Fatalf("handshake: %v", m.serverErr)
			}
			if !c.ok && m.clientErr == nil {
				t.Error("the client was not told")
			}
			if c.ok {
				if p, err := source.Peer(m.server); err != nil || p.Principal != ordersID {
					t.Errorf("%+v, %v", p, err)
				}
			}
		})
	}
	if m := present(source, pki, nil, identity.ALPNClient); m.serverErr == nil {
		t.Error("no certificate was accepted")
	}
}

// TestT04ALPN offers none, another listener's, and the right one.
func TestT04ALPN(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	cert := pki.Client("orders").TLS()
	for name, c := range map[string]struct {
		alpn []string
		ok   bool
	}{
		"right": {[]string{identity.ALPNClient}, true},
		"among": {[]string{"x", identity.ALPNClient}, true},
		"none":  {nil, false},
		"peer":  {[]string{identity.ALPNPeer}, false},
		"h2":    {[]string{"h2"}, false},
		"wrong": {[]string{"waxwing/2"}, false},
		"case":  {[]string{"Waxwing/1"}, false},
	} {
		if m := present(source, pki, &cert, c.alpn...); (m.serverErr == nil) != c.ok {
			t.Errorf("%s: %v", name, m.serverErr)
		}
	}
}

// TestT08T09Identities presents SANs of every sort, byte for byte. TLS completes; the broker hears why not.
func TestT08T09Identities(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	parent, parentKey := pki.Signer()
	long := "spiffe://test.example/" + strings.Repeat("a", 2048-len("spiffe://test.example/"))
	for name, c := range map[string]struct {
		uris   []string
		reason identity.Reason // "" = accepted as uris[0]
	}{
		"client":               {[]string{ordersID}, ""},
		"service account":      {[]string{"spiffe://test.example/ns/shop/sa/orders"}, ""},
		"every character":      {[]string{"spiffe://test.example/aZ0._-"}, ""},
		"case matters":         {[]string{"spiffe://test.example/client/Orders"}, ""},
		"broker is a prefix":   {[]string{"spiffe://test.example/brokers/x"}, ""},
		"longest":              {[]string{long}, ""},
		"too long":             {[]string{long + "a"}, identity.ReasonBadIdentity},
		"none":                 {nil, identity.ReasonNoIdentity},
		"two":                  {[]string{ordersID, "spiffe://test.example/client/admin"}, identity.ReasonManyURIs},
		"the same twice":       {[]string{ordersID, ordersID}, identity.ReasonManyURIs},
		"ten":                  {strings.Split(strings.Repeat(ordersID+" ", 9)+ordersID, " "), identity.ReasonManyURIs},
		"a URL beside it":      {[]string{ordersID, "https://example.org"}, identity.ReasonManyURIs},
		"only a URL":           {[]string{"https://test.example/client/orders"}, identity.ReasonBadIdentity},
		"other trust domain":   {[]string{"spiffe://other.example/client/orders"}, identity.ReasonBadIdentity},
		"sub-domain":           {[]string{"spiffe://a.test.example/client/orders"}, identity.ReasonBadIdentity},
		"prefix of domain":     {[]string{"spiffe://test.exampl/client/orders"}, identity.ReasonBadIdentity},
		"upper-case scheme":    {[]string{"SPIFFE://test.example/client/orders"}, identity.ReasonBadIdentity},
		"upper-case domain":    {[]string{"spiffe://Test.example/client/orders"}, identity.ReasonBadIdentity},
		"no scheme":            {[]string{"test.example/client/orders"}, identity.ReasonBadIdentity},
		"one slash":            {[]string{"spiffe:/test.example/client/orders"}, identity.ReasonBadIdentity},
		"three slashes":        {[]string{"spiffe:///test.example/client/orders"}, identity.ReasonBadIdentity},
		"no path":              {[]string{"spiffe://test.example"}, identity.ReasonBadIdentity},
		"only a slash":         {[]string{"spiffe://test.example/"}, identity.ReasonBadIdentity},
		"trailing slash":       {[]string{ordersID + "/"}, identity.ReasonBadIdentity},
		"trailing dot in name": {[]string{"spiffe://test.example./client/orders"}, identity.ReasonBadIdentity},
		"empty segment":        {[]string{"spiffe://test.example/client//orders"}, identity.ReasonBadIdentity},
		"dot segment":          {[]string{"spiffe://test.example/client/./orders"}, identity.ReasonBadIdentity},
		"dot dot":              {[]string{"spiffe://test.example/client/../broker/n1"}, identity.ReasonBadIdentity},
		"dot at the end":       {[]string{"spiffe://test.example/client/."}, identity.ReasonBadIdentity},
		"port":                 {[]string{"spiffe://test.example:443/client/orders"}, identity.ReasonBadIdentity},
		"user info":            {[]string{"spiffe://admin@test.example/client/orders"}, identity.ReasonBadIdentity},
		"password":             {[]string{"spiffe://a:b@test.example/client/orders"}, identity.ReasonBadIdentity},
		"query":                {[]string{ordersID + "?a=b"}, identity.ReasonBadIdentity},
		"empty query":          {[]string{ordersID + "?"}, identity.ReasonBadIdentity},
		"fragment":             {[]string{ordersID + "#a"}, identity.ReasonBadIdentity},
		"empty fragment":       {[]string{ordersID + "#"}, identity.ReasonBadIdentity},
		"percent":              {[]string{"spiffe://test.example/client/orde%72s"}, identity.ReasonBadIdentity},
		"percent slash":        {[]string{"spiffe://test.example/client%2forders"}, identity.ReasonBadIdentity},
		"percent dot dot":      {[]string{"spiffe://test.example/client/%2e%2e/admin"}, identity.ReasonBadIdentity},
		"percent NUL":          {[]string{ordersID + "%00"}, identity.ReasonBadIdentity},
		"percent in domain":    {[]string{"spiffe://test%2eexample/client/orders"}, identity.ReasonBadIdentity},
		"star":                 {[]string{"spiffe://test.example/client/*"}, identity.ReasonBadIdentity},
		"greater":              {[]string{"spiffe://test.example/client/>"}, identity.ReasonBadIdentity},
		"braces":               {[]string{"spiffe://test.example/client/{name}"}, identity.ReasonBadIdentity},
		"dollar":               {[]string{"spiffe://test.example/client/$x"}, identity.ReasonBadIdentity},
		"plus":                 {[]string{"spiffe://test.example/client/a+b"}, identity.ReasonBadIdentity},
		"tilde":                {[]string{"spiffe://test.example/client/~a"}, identity.ReasonBadIdentity},
		"semicolon":            {[]string{"spiffe://test.example/client/a;b"}, identity.ReasonBadIdentity},
		"at sign":              {[]string{"spiffe://test.example/client/a@b"}, identity.ReasonBadIdentity},
		"backslash":            {[]string{`spiffe://test.example/client\orders`}, identity.ReasonBadIdentity},
		"broker with two":      {[]string{"spiffe://test.example/broker/a/b"}, identity.ReasonBadIdentity},
		"broker with none":     {[]string{"spiffe://test.example/broker"}, identity.ReasonBadIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			o := identitytest.Odd{Parent: parent, ParentKey: parentKey}
			if len(c.uris) > 0 {
				o.Extra = []pkix.Extension{identitytest.SANExtension(c.uris...)}
			} else {
				o.DNS = []string{"orders.test.example"}
			}
			checkIdentity(t, source, pki, o, c.uris, c.reason)
		})
	}
}

// checkIdentity presents a certificate and compares what the broker makes of it.
func checkIdentity(t *testing.T, source *identity.Source, pki *identitytest.PKI, o identitytest.Odd, uris []string, want identity.Reason) {
	t.Helper()
	cert, err := identitytest.TryMint(o)
	if err != nil {
		return // x509 itself does not read such a certificate, so nobody presents it
	}
	m := present(source, pki, &cert, identity.ALPNClient)
	if m.serverErr != nil && want != "" {
		return // the handshake failed already: Go refuses to parse it
	}
	if m.serverErr != nil {
		t.Fatal(m.serverErr)
	}
	p, err := source.Peer(m.server)
	var refused *identity.RefusedError
	switch errors.As(err, &refused); {
	case want == "" && (err != nil || string(p.Principal) != uris[0]):
		t.Errorf("%+v, %v", p, err)
	case want != "" && (refused == nil || refused.Reason != want):
		t.Errorf("as %q: %v, want %s", p.Principal, err, want)
	}
}

// TestParseIDRefusesBytes covers what no certificate can carry past x509: NUL, line breaks, bytes beyond ASCII.
func TestParseIDRefusesBytes(t *testing.T) {
	for _, evil := range []string{"\x00", "\n", "\r", "\t", " ", "\x7f", "\x80", "ö", "о" /* Cyrillic */, "\u202e", "%", "\xff"} {
		for _, uri := range []string{ordersID + evil, evil + ordersID, "spiffe://test.example/cl" + evil + "ient/x", "spiffe://te" + evil + "st.example/client/x"} {
			if id, err := identity.ParseID(uri, "test.example"); err == nil {
				t.Errorf("%q is accepted as %q", uri, id.Principal)
			}
		}
	}
}

// TestT11OnlyTheSANCounts gives a client the subject, DNS and mail names of an admin.
func TestT11OnlyTheSANCounts(t *testing.T) {
	pki := identitytest.New(t)
	source := pki.Source("n1")
	parent, parentKey := pki.Signer()
	cert := identitytest.Mint(t, identitytest.Odd{Parent: parent, ParentKey: parentKey, URIs: []string{ordersID}, Subject: pkix.Name{CommonName: "spiffe://test.example/client/admin"}, DNS: []string{"admin"}, Emails: []string{"admin@test.example"}})
	m := present(source, pki, &cert, identity.ALPNClient)
	if p, err := source.Peer(m.server); err != nil || p.Principal != ordersID {
		t.Errorf("%+v, %v", p, err)
	}
}
