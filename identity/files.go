package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// fileBytesMax bounds what is read of a certificate, key or CRL file.
const fileBytesMax = 8 << 20

// readFile reads a bounded file.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, info.Size(), fileBytesMax)
	}
	return os.ReadFile(name)
}

// checkKeyMode refuses a key that others can read. The group may: that is how Kubernetes
// and Docker hand out keys.
func checkKeyMode(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s: everybody on this machine can read the private key (mode %04o); run: chmod 600 %s", name, info.Mode().Perm(), name)
	}
	return nil
}

// ParseCertificates reads every certificate of a PEM text; other text and blocks are passed over.
// where names the text in errors.
func ParseCertificates(where string, text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := text
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", where, len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it; expected PEM (-----BEGIN CERTIFICATE-----)", where)
	}
	return certs, nil
}

// parseKey reads the first private key of a PEM text: PKCS#8, PKCS#1 or SEC1.
func parseKey(where string, text []byte) (crypto.Signer, error) {
	rest := text
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%s: no private key in it; expected PEM (-----BEGIN PRIVATE KEY-----)", where)
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("%s: the private key is encrypted, which is not supported; decrypt it: openssl pkey -in %s -out KEY", where, where)
		}
		key, err := parseKeyBlock(block)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: private key: %w", where, err)
		case key != nil:
			return key, nil
		}
	}
}

// parseKeyBlock returns nil for a block that is no private key.
func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("type %T cannot sign", key)
	}
	return signer, nil
}

// LoadPair reads a certificate file and its key file, and checks the key's mode and that they
// belong together.
func LoadPair(certFile, keyFile string) (*tls.Certificate, error) {
	if err := checkKeyMode(keyFile); err != nil {
		return nil, err
	}
	cert, err := readFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := readFile(keyFile)
	if err != nil {
		return nil, err
	}
	return pair(certFile, cert, keyFile, key)
}

// pair makes a certificate with its key, and checks that they belong together.
func pair(certName string, certPEM []byte, keyName string, keyPEM []byte) (*tls.Certificate, error) {
	certs, err := ParseCertificates(certName, certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyName, keyPEM)
	if err != nil {
		return nil, err
	}
	public, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("%s is not the key of the first certificate in %s; the leaf must come first, before its intermediates", keyName, certName)
	}
	if err := checkKey(certs[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", certName, err)
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// Sizes of RSA keys that are accepted.
const (
	rsaBitsMin = 2048
	rsaBitsMax = 4096
)

// checkKey refuses weak and exotic keys.
func checkKey(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if name := key.Curve.Params().Name; name != "P-256" && name != "P-384" {
			return fmt.Errorf("key is on curve %s; use P-256, P-384, Ed25519 or RSA with %d to %d bits", name, rsaBitsMin, rsaBitsMax)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < rsaBitsMin || n > rsaBitsMax {
			return fmt.Errorf("RSA key has %d bits; use %d to %d", n, rsaBitsMin, rsaBitsMax)
		}
	default:
		return fmt.Errorf("key type %T is not supported; use P-256, P-384, Ed25519 or RSA", c.PublicKey)
	}
	return nil
}

// parseCRLs reads revocation lists, PEM or DER, and checks each signature against one of issuers.
func parseCRLs(where string, text []byte, issuers []*x509.Certificate) ([]*x509.RevocationList, error) {
	var ders [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = [][]byte{text}
	}
	var lists []*x509.RevocationList
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: no revocation list in it: %w", where, err)
		}
		if err := checkCRL(l, issuers); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}

func checkCRL(l *x509.RevocationList, issuers []*x509.Certificate) error {
	if l.SignatureAlgorithm == x509.SHA1WithRSA || l.SignatureAlgorithm == x509.ECDSAWithSHA1 {
		return fmt.Errorf("revocation list of %s: signed with SHA-1, which x509 still takes for lists; sign it with SHA-256", l.Issuer)
	}
	err := errors.New("its issuer is none of the configured certificates")
	for _, c := range issuers {
		if bytes.Equal(c.RawSubject, l.RawIssuer) {
			if err = l.CheckSignatureFrom(c); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("revocation list of %s: %w", l.Issuer, err)
}
