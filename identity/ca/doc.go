// Package ca is a small certificate authority for people who have none: a root, an issuing CA
// below it, leaves with exactly one SPIFFE ID, and a revocation list. Certificates from any other CA work just as
// well; nothing in the broker depends on this package.
//
// A folder holds roots.crt (what everybody trusts), root.key (keep it offline), ca.crt and ca.key
// (the issuing CA), ca.json (trust domain) and crl.pem (once something was revoked). Keys are ECDSA P-256, PKCS#8, mode 0600.
package ca
