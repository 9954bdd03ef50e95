package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
)

// RotateTickets does what Run does once a day.
func (s *Source) RotateTickets() { s.rotateTickets() }

// Identify finds the identity of a certificate whose subject alternative names are these bytes.
func Identify(san []byte, trustDomain string, rules []Rule) (ID, error) {
	return identify(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN, Value: san}}}, trustDomain, rules)
}

// ParseKey reads a private key.
func ParseKey(text []byte) error { _, err := parseKey("key", text); return err }

// ParseCRLs reads revocation lists.
func ParseCRLs(text []byte, issuers []*x509.Certificate) (int, error) {
	lists, err := parseCRLs("crl", text, issuers)
	return len(fromCRLs(lists)), err
}
