package identity

import (
	"crypto/x509"
	"fmt"
)

// SerialKey names a certificate by issuer (RFC 2253) and serial (lower-case hex).
type SerialKey struct {
	Issuer string
	Serial string
}

// Revocations is the replicated list. It is not changed after SetRevocations got it.
type Revocations struct {
	Version    uint64 // grows with each change; nodes of a cluster with the same version have the same list
	Identities map[Principal]struct{}
	SPKI       map[[32]byte]struct{}
	Serials    map[SerialKey]struct{}
}

// check reports whether and how a certificate of an identity is revoked.
func (r *Revocations) check(id Principal, leaf *x509.Certificate) (how string, revoked bool) {
	if _, ok := r.Identities[id]; ok {
		return "the identity is revoked", true
	}
	if _, ok := r.SPKI[SPKIHash(leaf)]; ok {
		return "the key is revoked", true
	}
	serial := SerialText(leaf.SerialNumber)
	if _, ok := r.Serials[SerialKey{leaf.Issuer.String(), serial}]; ok {
		return fmt.Sprintf("the certificate with serial %s is revoked", serial), true
	}
	return "", false
}

// fromCRLs collects the serials of revocation lists.
func fromCRLs(lists []*x509.RevocationList) map[SerialKey]struct{} {
	serials := map[SerialKey]struct{}{}
	for _, l := range lists {
		issuer := l.Issuer.String()
		for _, e := range l.RevokedCertificateEntries {
			serials[SerialKey{issuer, SerialText(e.SerialNumber)}] = struct{}{}
		}
	}
	return serials
}
