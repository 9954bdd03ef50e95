package client

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Revocation names what is no longer welcome: exactly one of an identity, a key, or
// a certificate by serial and issuer.
type Revocation struct {
	Identity string // principal, for example "spiffe://example.org/client/orders"
	SPKI     string // SHA-256 of the SubjectPublicKeyInfo, lower-case hex
	Serial   string // lower-case hex, together with Issuer
	Issuer   string // RFC 2253 name
	Reason   string

	By string    // who added it; set by the broker
	At time.Time // when it was added; set by the broker
}

// Revocations manages the replicated revocation list. Get it from
// Client.Revocations. All of it needs the right "admin".
type Revocations struct {
	c            *Client
	linearizable bool
}

// Revocations returns the part of the client that handles the revocation list.
func (c *Client) Revocations() *Revocations { return &Revocations{c: c} }

// Linearizable returns the same, but List shows every change that was acknowledged before the call; see Topics.Linearizable.
func (r *Revocations) Linearizable() *Revocations { return &Revocations{r.c, true} }

// Add revokes. Live connections of what is revoked are closed within a second on
// every node. Adding an entry that is there changes nothing. Force allows revoking
// the caller itself, which otherwise is ErrLockout.
func (r *Revocations) Add(ctx context.Context, entry Revocation, force bool) error {
	return r.change(ctx, "add revocation", &protocol.Revoke{Entry: entry.wire(), Force: force})
}

// Remove takes an entry off the list. Removing one that is not there changes nothing.
func (r *Revocations) Remove(ctx context.Context, entry Revocation) error {
	return r.change(ctx, "remove revocation", &protocol.Revoke{Entry: entry.wire(), Remove: true})
}

func (r *Revocations) change(ctx context.Context, op string, m *protocol.Revoke) error {
	answer, err := call[*protocol.OK](ctx, r.c, op, m.Entry.Value, again, m)
	if err != nil {
		return err
	}
	r.c.sawApplied(answer.Applied)
	return nil
}

// List returns all entries, as of after the last change this client made; see Linearizable.
func (r *Revocations) List(ctx context.Context) ([]Revocation, error) {
	var entries []Revocation
	for {
		m := &protocol.RevokeList{After: r.c.after(r.linearizable), Skip: uint32(len(entries))}
		page, err := call[*protocol.Revocations](ctx, r.c, "list revocations", "", again, m)
		if err != nil {
			return nil, err
		}
		for i := range page.Entries {
			entries = append(entries, revocation(&page.Entries[i]))
		}
		if !page.More || len(page.Entries) == 0 {
			return entries, nil
		}
	}
}

// wire leaves it to the broker to refuse an entry that names nothing.
func (r Revocation) wire() protocol.Revocation {
	m := protocol.Revocation{Reason: r.Reason}
	switch {
	case r.SPKI != "":
		m.What, m.Value = protocol.RevokeSPKI, r.SPKI
	case r.Serial != "":
		m.What, m.Value, m.Issuer = protocol.RevokeSerial, r.Serial, r.Issuer
	default:
		m.What, m.Value = protocol.RevokeIdentity, r.Identity
	}
	return m
}

func revocation(m *protocol.Revocation) Revocation {
	r := Revocation{Issuer: m.Issuer, Reason: m.Reason, By: m.ByWhom, At: when(m.AtMs)}
	switch m.What {
	case protocol.RevokeSPKI:
		r.SPKI = m.Value
	case protocol.RevokeSerial:
		r.Serial = m.Value
	default:
		r.Identity = m.Value
	}
	return r
}
