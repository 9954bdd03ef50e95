package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// Peer is the verified other end of a connection.
type Peer struct {
	Principal Principal
	Role      Role
	Node      string    // brokers only
	SPKI      [32]byte  // SHA-256 of the SubjectPublicKeyInfo
	Serial    string    // lower-case hex
	Issuer    string    // RFC 2253
	NotAfter  time.Time // earliest of the chain: the connection ends then
	Leaf      *x509.Certificate

	TLSVersion  string
	Cipher      string
	Group       string // key exchange
	PostQuantum bool
	Resumed     bool

	presented []*x509.Certificate
	side      Side
}

// SPKIHash is the hash by which a key is named.
func SPKIHash(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// SerialText is the spelling of serial numbers: lower-case hex without leading zeros.
func SerialText(n *big.Int) string { return fmt.Sprintf("%x", n) }

// describe fills in what TLS negotiated.
func (p *Peer) describe(cs *tls.ConnectionState) {
	p.TLSVersion = tls.VersionName(cs.Version)
	p.Cipher = tls.CipherSuiteName(cs.CipherSuite)
	p.Group = cs.CurveID.String()
	p.PostQuantum = postQuantum(cs.CurveID)
	p.Resumed = cs.DidResume
}

// postQuantum reports whether a key exchange includes ML-KEM.
func postQuantum(id tls.CurveID) bool {
	switch id {
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return true
	}
	return false
}
