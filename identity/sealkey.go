package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"
)

// SealKey is a node's own key, by which others of its cluster tell it ticket secrets that nobody else can read: HPKE
// (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM. It has nothing to do with the node's certificate.
type SealKey struct{ private hpke.PrivateKey }

// sealKEM is how secrets are sealed; its public and private keys have 32 bytes.
var sealKEM = hpke.DHKEM(ecdh.X25519())

// NewSealKey makes a key.
func NewSealKey() (*SealKey, error) {
	k, err := sealKEM.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make a sealing key: %w", err)
	}
	return &SealKey{k}, nil
}

// ParseSealKey is the reverse of Bytes.
func ParseSealKey(b []byte) (*SealKey, error) {
	k, err := sealKEM.NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	return &SealKey{k}, nil
}

// Bytes is the private key.
func (k *SealKey) Bytes() ([]byte, error) { return k.private.Bytes() }

// Public is what others seal to.
func (k *SealKey) Public() [32]byte { return [32]byte(k.private.PublicKey().Bytes()) }

// Seal seals a secret to a node's public key. It can be opened only with the same info.
func Seal(to [32]byte, info []byte, secret TicketSecret) ([]byte, error) {
	public, err := sealKEM.NewPublicKey(to[:])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, bytes.Clone(secret[:]))
}

// CheckSealKey says whether something can be sealed to a public key.
func CheckSealKey(to [32]byte) error {
	_, err := Seal(to, nil, TicketSecret{})
	return err
}

// Open opens what was sealed to this key.
func (k *SealKey) Open(info, sealed []byte) (TicketSecret, error) {
	b, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	switch {
	case err != nil:
		return TicketSecret{}, fmt.Errorf("open a sealed secret: %w", err)
	case len(b) != len(TicketSecret{}):
		return TicketSecret{}, fmt.Errorf("open a sealed secret: it has %d bytes", len(b))
	}
	return TicketSecret(b), nil
}
