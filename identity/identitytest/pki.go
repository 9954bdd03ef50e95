// Package identitytest mints certificates for tests: good ones from a CA in memory, and odd ones on
// demand. It works inside synctest bubbles, whose clock starts in 2000: mint inside the bubble.
package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
)

// TrustDomain is the trust domain of every test.
const TrustDomain = "test.example"

// PKI is a CA and a folder for its files.
type PKI struct {
	*ca.Authority
	Dir string

	t testing.TB
}

// New makes a CA.
func New(t testing.TB) *PKI {
	t.Helper()
	a, err := ca.New(TrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	p := &PKI{Authority: a, Dir: t.TempDir(), t: t}
	p.write(ca.RootsFile, a.RootsPEM(), 0o644)
	return p
}

// Files are the paths of a certificate.
type Files struct{ Cert, Key, CA string }

// write writes a file of the folder and returns its path.
func (p *PKI) write(name string, text []byte, mode os.FileMode) string {
	p.t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := ca.WriteFile(path, text, mode); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// Save writes an issued certificate under a name.
func (p *PKI) Save(name string, i *ca.Issued) Files {
	p.t.Helper()
	return Files{Cert: p.write(name+".crt", i.CertPEM, 0o644), Key: p.write(name+".key", i.KeyPEM, 0o600), CA: filepath.Join(p.Dir, ca.RootsFile)}
}

// Must issues a certificate.
func (p *PKI) Must(r ca.Request) *ca.Issued {
	p.t.Helper()
	i, err := p.Issue(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return i
}

// Broker issues a node certificate for loopback.
func (p *PKI) Broker(node string) *ca.Issued {
	p.t.Helper()
	return p.Must(ca.Request{Name: node, Role: identity.RoleBroker, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
}

// Client issues a client certificate.
func (p *PKI) Client(name string) *ca.Issued {
	p.t.Helper()
	return p.Must(ca.Request{Name: name})
}

// ClientFiles issues a client certificate and writes it.
func (p *PKI) ClientFiles(name string) Files {
	p.t.Helper()
	return p.Save(name, p.Client(name))
}

// Source opens a node's identity.
func (p *PKI) Source(node string) *identity.Source {
	p.t.Helper()
	f := p.Save(node, p.Broker(node))
	s, err := identity.Open(identity.Options{TrustDomain: TrustDomain, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// ClientConfig is a bare config for raw TLS tests: it trusts the CA and presents the
// certificate, and checks nothing of ours.
func (p *PKI) ClientConfig(i *ca.Issued, alpn ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Roots(), ServerName: "localhost", NextProtos: alpn}
	if i != nil {
		c.Certificates = []tls.Certificate{i.TLS()}
	}
	return c
}

// Roots is a pool with the CA's root.
func (p *PKI) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.RootsPEM())
	return pool
}

// Odd is a certificate of any shape. Zero fields get what a good client certificate has.
type Odd struct {
	URIs      []string
	DNS       []string
	Emails    []string
	Subject   pkix.Name
	NotBefore time.Time
	NotAfter  time.Time
	Usages    []x509.ExtKeyUsage
	NoUsages  bool
	IsCA      bool
	Key       crypto.Signer     // default: a new P-256 key
	Parent    *x509.Certificate // with ParentKey: who signs; default: itself
	ParentKey crypto.Signer
	Extra     []pkix.Extension
	Change    func(*x509.Certificate) // last change to the template
	Algorithm x509.SignatureAlgorithm
}

// Mint signs an odd certificate. The parent goes into the chain.
func Mint(t testing.TB, o Odd) tls.Certificate {
	t.Helper()
	c, err := TryMint(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TryMint is Mint for shapes that x509 may refuse to make or to read.
func TryMint(o Odd) (tls.Certificate, error) {
	if o.Key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		o.Key = key
	}
	template, err := o.template()
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, parentKey := o.Parent, o.ParentKey
	if parent == nil {
		parent, parentKey = template, o.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, o.Key.Public(), parentKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: o.Key, Leaf: leaf}
	if o.Parent != nil {
		out.Certificate = append(out.Certificate, o.Parent.Raw)
	}
	return out, nil
}

func (o *Odd) template() (*x509.Certificate, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: n, Subject: o.Subject, DNSNames: o.DNS, EmailAddresses: o.Emails, NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		IsCA: o.IsCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: o.Usages, ExtraExtensions: o.Extra, SignatureAlgorithm: o.Algorithm}
	if o.IsCA {
		c.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	for _, text := range o.URIs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		c.URIs = append(c.URIs, u)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = now.Add(-time.Minute)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.Add(time.Hour)
	}
	if c.ExtKeyUsage == nil && !o.NoUsages {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if o.Change != nil {
		o.Change(c)
	}
	return c, nil
}

// SANExtension is a subject alternative name extension with URI names byte for byte, for
// spellings that url.URL would change.
func SANExtension(uris ...string) pkix.Extension {
	var names []byte
	for _, u := range uris {
		names = append(names, 0x86)
		names = appendLength(names, len(u))
		names = append(names, u...)
	}
	value := appendLength([]byte{0x30}, len(names))
	return pkix.Extension{Id: []int{2, 5, 29, 17}, Value: append(value, names...)}
}

func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 128:
		return append(dst, byte(n))
	case n < 256:
		return append(dst, 0x81, byte(n))
	}
	return append(dst, 0x82, byte(n>>8), byte(n))
}
