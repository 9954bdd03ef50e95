package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
)

// Request says what certificate is wanted.
type Request struct {
	Name string        // last segment of the identity: spiffe://TD/client/NAME or spiffe://TD/broker/NAME
	Role identity.Role // default RoleClient
	ID   string        // a whole SPIFFE ID instead of Name and Role, such as spiffe://TD/ns/NS/sa/SA
	DNS  []string      // brokers: the names by which clients reach it
	IPs  []net.IP
	TTL  time.Duration // default TTLDefault
}

// Issued is a certificate with its key.
type Issued struct {
	ID      string
	Leaf    *x509.Certificate
	CertPEM []byte // leaf, then issuing CA
	KeyPEM  []byte // PKCS#8

	chain [][]byte
	key   crypto.Signer
}

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(r Request) (*Issued, error) {
	id, role, err := a.identityOf(&r)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if r.TTL == 0 {
		r.TTL = TTLDefault
	}
	if r.TTL < 0 {
		return nil, fmt.Errorf("issue certificate: a lifetime of %v", r.TTL)
	}
	number, err := serial()
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{Organization: []string{"Waxwing"}, CommonName: cut(r.Name, 64)},
		URIs:                  []*url.URL{uri},
		DNSNames:              r.DNS,
		IPAddresses:           r.IPs,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(r.TTL),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usages(role),
		BasicConstraintsValid: true,
	}
	return a.issue(id, template)
}

// issue signs a template with a new key.
func (a *Authority) issue(id string, template *x509.Certificate) (*Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if template.NotAfter.After(a.issuing.NotAfter) {
		template.NotAfter = a.issuing.NotAfter
	}
	leaf, err := sign(template, a.issuing, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	text, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return &Issued{
		ID:      id,
		Leaf:    leaf,
		CertPEM: append(certPEM(leaf.Raw), certPEM(a.issuing.Raw)...),
		KeyPEM:  text,
		chain:   [][]byte{leaf.Raw, a.issuing.Raw},
		key:     key,
	}, nil
}

// identityOf makes and checks the identity.
func (a *Authority) identityOf(r *Request) (string, identity.Role, error) {
	uri := r.ID
	switch {
	case uri == "" && r.Name == "":
		return "", 0, errors.New("no name given")
	case uri == "" && r.Role == identity.RoleBroker:
		uri = identity.BrokerID(a.TrustDomain, r.Name)
	case uri == "":
		uri = identity.ClientID(a.TrustDomain, r.Name)
	}
	id, err := identity.ParseID(uri, a.TrustDomain)
	if err != nil {
		return "", 0, fmt.Errorf("identity %q: %w", uri, err)
	}
	return uri, id.Role, nil
}

// usages of a role: a node is server and client to its peers.
func usages(role identity.Role) []x509.ExtKeyUsage {
	if role == identity.RoleBroker {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// Renew makes a new key and certificate with the identity, names and lifetime of an old one,
// which this authority must have issued; it may have expired.
func (a *Authority) Renew(oldPEM []byte, ttl time.Duration) (*Issued, error) {
	certs, err := identity.ParseCertificates("old certificate", oldPEM)
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	old := certs[0]
	if err := old.CheckSignatureFrom(a.issuing); err != nil {
		return nil, fmt.Errorf("renew certificate: this CA (%s) did not issue it: %w", a.issuing.Subject, err)
	}
	if len(old.URIs) != 1 {
		return nil, fmt.Errorf("renew certificate: it has %d URI SANs, expected one", len(old.URIs))
	}
	if ttl == 0 {
		ttl = old.NotAfter.Sub(old.NotBefore) - backdate
	}
	return a.Issue(Request{Name: old.Subject.CommonName, ID: old.URIs[0].String(), DNS: old.DNSNames, IPs: old.IPAddresses, TTL: ttl})
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
