package identity

import "fmt"

// Reason is a stable word for why a certificate was refused, for logs and metrics.
type Reason string

// Reasons.
const (
	ReasonNoIdentity  Reason = "no_identity"  // no URI SAN and no rule maps it
	ReasonManyURIs    Reason = "many_uris"    // more than one URI SAN
	ReasonBadIdentity Reason = "bad_identity" // the URI SAN is no SPIFFE ID of the trust domain
	ReasonAmbiguous   Reason = "ambiguous"    // the rules map it to more than one principal
	ReasonRole        Reason = "role"         // a node on the client port, a client on the peer port
	ReasonRevoked     Reason = "revoked"
	ReasonRemoved     Reason = "removed" // a node that is no member of the cluster any more
	ReasonExpired     Reason = "expired" // or not yet valid
	ReasonUntrusted   Reason = "untrusted"
	ReasonUsage       Reason = "usage" // extended key usage, or a CA certificate
	ReasonWeakKey     Reason = "weak_key"
	ReasonALPN        Reason = "alpn"
	ReasonNone        Reason = "no_certificate"
)

// RefusedError says why a certificate gets no connection.
type RefusedError struct {
	Reason   Reason
	Identity string // as the broker saw it, "" if it saw none
	Detail   string // what, where, what to do next
	Err      error
}

func (e *RefusedError) Error() string {
	if e.Identity == "" {
		return fmt.Sprintf("certificate refused (%s): %s", e.Reason, e.Detail)
	}
	return fmt.Sprintf("certificate of %s refused (%s): %s", e.Identity, e.Reason, e.Detail)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// ofChain reports whether the fault is one of the chain, which ends the handshake on every
// listener.
func (e *RefusedError) ofChain() bool {
	switch e.Reason {
	case ReasonExpired, ReasonUntrusted, ReasonUsage, ReasonWeakKey, ReasonALPN, ReasonNone:
		return true
	}
	return false
}
