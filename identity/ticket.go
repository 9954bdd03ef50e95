package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
)

// TicketSecret is what ticket keys of the client port are made from. Who knows one can forge sessions, so it is in memory
// only, and no log or format shows it.
type TicketSecret [32]byte

// NewTicketSecret makes one.
func NewTicketSecret() TicketSecret {
	var s TicketSecret
	rand.Read(s[:])
	return s
}

const hiddenSecret = "(ticket secret)"

// Format hides the secret from every verb of package fmt.
func (TicketSecret) Format(f fmt.State, _ rune) { io.WriteString(f, hiddenSecret) }

// MarshalText hides the secret from logs and JSON.
func (TicketSecret) MarshalText() ([]byte, error) { return []byte(hiddenSecret), nil }

// ticketPurpose keeps ticket keys apart from whatever else may once be made of a secret.
const ticketPurpose = "waxwing/1 session tickets"

// ticketKeys makes the keys of secrets for what a snapshot verifies by: under another revocation list, other roots or other
// identity rules they are other keys, and tickets of before fall back to a full handshake. Nodes with the same secrets,
// list, files and rules resume each other's sessions.
func (n *snapshot) ticketKeys(o *Options, secrets []TicketSecret) [][32]byte {
	text := fmt.Appendf(nil, "%s\n%s\n%x\n%d\n", ticketPurpose, o.TrustDomain, n.rootsHash, n.revoked.Version)
	for _, r := range o.Rules {
		text = fmt.Appendf(text, "%q %q\n", r.From, r.Match)
	}
	keys := make([][32]byte, len(secrets))
	for i, s := range secrets {
		h := hmac.New(sha256.New, s[:])
		h.Write(text)
		h.Sum(keys[i][:0])
	}
	return keys
}

// ownSecretsMax is how many secrets of its own a node keeps: today's and yesterday's.
const ownSecretsMax = 2

// SetTicketSecrets gives the Source the secrets of its cluster, the one for new tickets first. Without any it uses ones of its
// own, which no other node knows.
func (s *Source) SetTicketSecrets(secrets []TicketSecret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = slices.Clone(secrets)
	next := *s.current.Load()
	s.installLocked(&next)
}

// rotateTickets makes a new secret of the node's own; tickets of the one before it still resume.
func (s *Source) rotateTickets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = append([]TicketSecret{NewTicketSecret()}, s.own[:min(len(s.own), ownSecretsMax-1)]...)
	next := *s.current.Load()
	s.installLocked(&next)
}
