package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
)

// Files of a CA folder.
const (
	RootsFile   = "roots.crt" // hand this to clients and brokers
	RootKeyFile = "root.key"
	CertFile    = "ca.crt"
	KeyFile     = "ca.key"
	MetaFile    = "ca.json"
	CRLFile     = "crl.pem"
)

// Lifetimes.
const (
	rootYears    = 10
	issuingYears = 5
	TTLDefault   = 720 * time.Hour
	backdate     = 5 * time.Minute // for clocks that are a little behind
)

// Authority issues certificates. Make one with New, Init or Open.
type Authority struct {
	TrustDomain string

	dir     string // "" = in memory
	root    *x509.Certificate
	issuing *x509.Certificate
	key     crypto.Signer
	rootKey crypto.Signer // nil once opened from a folder
}

// meta is ca.json.
type meta struct {
	Version     int    `json:"version"`
	TrustDomain string `json:"trust_domain"`
}

const metaVersion = 1

// New makes an authority in memory.
func New(trustDomain string) (*Authority, error) {
	if err := identity.CheckTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	a := &Authority{TrustDomain: trustDomain}
	id, err := serial()
	if err != nil {
		return nil, err
	}
	mark := fmt.Sprintf("%x", id.Bytes()[:4]) // two CAs of one name must not look alike
	if a.root, a.rootKey, err = authority(trustDomain+" root "+mark, rootYears, 1, nil, nil); err != nil {
		return nil, err
	}
	if a.issuing, a.key, err = authority(trustDomain+" issuing "+mark, issuingYears, 0, a.root, a.rootKey); err != nil {
		return nil, err
	}
	return a, nil
}

// authority makes a CA certificate, signed by parent or by itself.
func authority(name string, years, pathLen int, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{Organization: []string{"Waxwing"}, CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(years, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	cert, err := sign(template, parent, key.Public(), parentKey)
	return cert, key, err
}

// sign makes a certificate and reads it back.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	certs, err := identity.ParseCertificates("new certificate", certPEM(der))
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// serial is 127 random bits: positive, and never zero.
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}

// Init makes an authority in a folder, which must not hold one.
func Init(dir, trustDomain string) (*Authority, error) {
	a, err := New(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("init CA: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, MetaFile)); err == nil {
		return nil, fmt.Errorf("init CA: %s holds a CA already; use it, or choose another folder", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("init CA: %w", err)
	}
	a.dir = dir
	if err := a.save(); err != nil {
		return nil, fmt.Errorf("init CA: %w", err)
	}
	return a, nil
}

// save writes every file; ca.json last, since it says that the folder is whole.
func (a *Authority) save() error {
	rootKey, err := keyPEM(a.rootKey)
	if err != nil {
		return err
	}
	key, err := keyPEM(a.key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(meta{metaVersion, a.TrustDomain})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{
		{RootKeyFile, rootKey, 0o600},
		{KeyFile, key, 0o600},
		{RootsFile, certPEM(a.root.Raw), 0o644},
		{CertFile, certPEM(a.issuing.Raw), 0o644},
		{MetaFile, append(text, '\n'), 0o644},
	} {
		if err := WriteFile(filepath.Join(a.dir, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// Open reads the authority of a folder.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	if err := a.load(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w; make one: waxwing pki init %s --trust-domain NAME", err, dir)
		}
		return nil, fmt.Errorf("open CA: %w", err)
	}
	return a, nil
}

func (a *Authority) load() error {
	text, err := os.ReadFile(filepath.Join(a.dir, MetaFile))
	if err != nil {
		return err
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("%s: %w", MetaFile, err)
	}
	if m.Version != metaVersion {
		return fmt.Errorf("%s: format version %d, this program knows %d", MetaFile, m.Version, metaVersion)
	}
	a.TrustDomain = m.TrustDomain
	if a.root, err = readCert(filepath.Join(a.dir, RootsFile)); err != nil {
		return err
	}
	pair, err := identity.LoadPair(filepath.Join(a.dir, CertFile), filepath.Join(a.dir, KeyFile))
	if err != nil {
		return err
	}
	a.issuing, a.key = pair.Leaf, pair.PrivateKey.(crypto.Signer)
	return nil
}

func readCert(name string) (*x509.Certificate, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	certs, err := identity.ParseCertificates(name, text)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// RootsPEM is what brokers and clients must trust.
func (a *Authority) RootsPEM() []byte { return certPEM(a.root.Raw) }

// Issuer is the issuing CA's certificate.
func (a *Authority) Issuer() *x509.Certificate { return a.issuing }

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// WriteFile writes a file so that it is there whole or not at all, with its mode from the
// first byte on.
func WriteFile(name string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(text); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// TLS is the certificate for use in this process.
func (i *Issued) TLS() tls.Certificate {
	return tls.Certificate{Certificate: i.chain, PrivateKey: i.key, Leaf: i.Leaf}
}

// Signer is the issuing CA's certificate and key, for tests that sign odd certificates.
func (a *Authority) Signer() (*x509.Certificate, crypto.Signer) { return a.issuing, a.key }
