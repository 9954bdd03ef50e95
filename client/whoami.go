package client

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Right is one line of what an identity may or may not do.
type Right = protocol.Right

// Identity is how the broker sees this connection.
type Identity struct {
	Principal     string
	Serial        string // lower-case hex
	Issuer        string
	SPKI          string // SHA-256 of the public key, hex
	NotAfter      time.Time
	TLSVersion    string
	Cipher        string
	Group         string // key exchange
	PostQuantum   bool   // the key exchange resists quantum computers
	Resumed       bool   // the TLS session was resumed
	PolicyVersion uint64
	Rights        []Right
	Node          string
	RemoteAddr    string // the client's address as the broker sees it
}

// WhoAmI asks the broker how it sees this connection.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	m, err := call[*protocol.Identity](ctx, c, "whoami", "", again, &protocol.WhoAmI{})
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		Principal: m.Principal, Serial: m.Serial, Issuer: m.Issuer, SPKI: m.SPKI, NotAfter: when(m.NotAfterMs),
		TLSVersion: m.TLSVersion, Cipher: m.Cipher, Group: m.Group, PostQuantum: m.PostQuantum, Resumed: m.Resumed,
		PolicyVersion: m.PolicyVer, Rights: m.Rights, Node: m.Node, RemoteAddr: m.RemoteAddr,
	}, nil
}
