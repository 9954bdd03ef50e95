package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// testCA mints certificates, also inside a bubble, where the clock starts in 2000.
type testCA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB) *testCA {
	ca := &testCA{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	ca.cert = ca.sign(template, template, &ca.key.PublicKey)
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (ca *testCA) sign(template, parent *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert
}

// issue makes a leaf with one URI SAN and, for a broker, a host name.
func (ca *testCA) issue(id, host string) (certPEM, keyPEM []byte) {
	uri, err := url.Parse(id)
	if err != nil {
		ca.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	key := newKey(ca.t)
	template := &x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
	}
	if host != "" {
		template.DNSNames = []string{host}
	}
	cert := ca.sign(template, ca.cert, &key.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (ca *testCA) rootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// serverConfig is a broker's side: mutual, TLS 1.3, ALPN.
func (ca *testCA) serverConfig(id, host string) *tls.Config {
	certPEM, keyPEM := ca.issue(id, host)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		ca.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"waxwing/1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}
}

// newPKI is the usual case: one CA, a broker, and a client who may connect to it.
func newPKI(t testing.TB) (*testCA, *tls.Config, client.Options) {
	ca := newCA(t)
	certPEM, keyPEM := ca.issue("spiffe://test/client/orders", "")
	options := client.Options{Servers: []string{fakeAddr}, CertPEM: certPEM, KeyPEM: keyPEM, CAPEM: ca.rootPEM()}
	return ca, ca.serverConfig("spiffe://test/broker/b1", "broker.test"), options
}

// writeFiles puts a certificate and its key where the options of a client point.
func writeFiles(t testing.TB, dir string, certPEM, keyPEM, rootPEM []byte) (cert, key, root string) {
	cert, key, root = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	for path, text := range map[string][]byte{cert: certPEM, key: keyPEM, root: rootPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, root
}
