package identity

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

// Report is what a broker makes of a certificate.
type Report struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	SPKI      string    `json:"spki_sha256"`
	Key       string    `json:"key"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	URIs      []string  `json:"uris"`
	DNS       []string  `json:"dns"`
	IPs       []string  `json:"ips"`
	Usages    []string  `json:"usages"`
	Identity  string    `json:"identity"` // the principal, "" if it has none
	Role      string    `json:"role"`
	Faults    []string  `json:"faults"` // why a broker would refuse it; empty = it would not
}

// Inspect reads the first certificate of a PEM text as a broker of a trust domain would, with its
// rules. With roots it verifies the chain, too; without, only what the certificate itself says.
func Inspect(where string, text []byte, trustDomain string, rules []Rule, roots []byte) (Report, error) {
	certs, err := ParseCertificates(where, text)
	if err != nil {
		return Report{}, err
	}
	leaf := certs[0]
	spki := SPKIHash(leaf)
	r := Report{Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: SerialText(leaf.SerialNumber), SPKI: hex.EncodeToString(spki[:]),
		Key: leaf.PublicKeyAlgorithm.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, DNS: leaf.DNSNames}
	r.URIs, _ = rawURIs(leaf)
	for _, ip := range leaf.IPAddresses {
		r.IPs = append(r.IPs, ip.String())
	}
	for _, u := range leaf.ExtKeyUsage {
		r.Usages = append(r.Usages, usageText(u))
	}
	id, err := identify(leaf, trustDomain, rules)
	r.fault(err)
	r.Identity, r.Role = string(id.Principal), id.Role.String()
	return r, r.verify(certs, id, roots)
}

func (r *Report) fault(err error) {
	if err != nil {
		r.Faults = append(r.Faults, err.Error())
	}
}

// verify adds the faults of leaf and chain.
func (r *Report) verify(certs []*x509.Certificate, id ID, rootsPEM []byte) error {
	usages := clientUsages
	if id.Role == RoleBroker {
		usages = peerUsages
	}
	if rootsPEM == nil {
		r.fault(checkLeaf(certs[0], usages))
		if now := time.Now(); now.After(certs[0].NotAfter) || now.Before(certs[0].NotBefore) {
			r.Faults = append(r.Faults, fmt.Sprintf("it is valid from %s to %s, and not now", certs[0].NotBefore.UTC().Format(time.RFC3339), certs[0].NotAfter.UTC().Format(time.RFC3339)))
		}
		return nil
	}
	cas, err := ParseCertificates("CA file", rootsPEM)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	_, err = verifyAnew(certs, pool, usages, time.Now())
	r.fault(err)
	return nil
}

func usageText(u x509.ExtKeyUsage) string {
	switch u {
	case x509.ExtKeyUsageClientAuth:
		return "clientAuth"
	case x509.ExtKeyUsageServerAuth:
		return "serverAuth"
	case x509.ExtKeyUsageAny:
		return "any"
	}
	return fmt.Sprintf("usage %d", u)
}
