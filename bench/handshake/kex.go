package handshake

import (
	"crypto/tls"
	"fmt"
)

// Kex is a key exchange.
type Kex string

// Key exchanges.
const (
	PQ     Kex = "pq" // X25519MLKEM768: hybrid, what clients and brokers use by themselves
	X25519 Kex = "x25519"
	P256   Kex = "p256"
)

// ParseKex reads one.
func ParseKex(text string) (Kex, error) {
	if _, ok := curves[Kex(text)]; !ok {
		return "", fmt.Errorf("key exchange %q: use pq, x25519 or p256", text)
	}
	return Kex(text), nil
}

var curves = map[Kex]tls.CurveID{PQ: tls.X25519MLKEM768, X25519: tls.X25519, P256: tls.CurveP256}

// Reuse is what one message leaves for the next.
type Reuse string

// Ways of reuse.
const (
	None   Reuse = "none"   // a new connection and a full handshake for every message
	Ticket Reuse = "ticket" // a new connection that resumes the session of the one before
	Conn   Reuse = "conn"   // the same connection
)

// ParseReuse reads one.
func ParseReuse(text string) (Reuse, error) {
	switch r := Reuse(text); r {
	case None, Ticket, Conn:
		return r, nil
	}
	return "", fmt.Errorf("reuse %q: use none, ticket or conn", text)
}
