// Package identity turns a verified certificate chain into a Principal, and is the only place
// that builds a tls.Config or parses certificates and keys. DESIGN section 2 is normative.
//
// Every rule runs in tls.Config.VerifyConnection, which Go calls for resumed connections too (VerifyPeerCertificate
// is not), and again in Source.Peer, so that no path skips a check. Faults of the chain (untrusted, expired,
// wrong usage, weak key, no ALPN) end the handshake on every listener. Faults of identity or rights (SAN, role,
// revocation) end it on the peer and HTTPS listeners; on the client listener TLS completes and Source.Peer returns the
// *RefusedError that the broker sends as a typed frame, because a TLS alert cannot say why.
//
// It does not decide what a principal may do: that is package policy.
package identity
