package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Principal is who a connection is: a SPIFFE ID, or dns:NAME, email:NAME or cn:NAME for
// certificates that identity.rules map. Compared byte for byte.
type Principal string

// Role is what a certificate is for.
type Role uint8

// Roles.
const (
	RoleClient Role = iota + 1
	RoleBroker
)

func (r Role) String() string {
	switch r {
	case RoleClient:
		return "client"
	case RoleBroker:
		return "broker"
	}
	return "none"
}

// idBytesMax is the SPIFFE specification's limit.
const idBytesMax = 2048

// brokerPath is the first segment of every node's path.
const brokerPath = "broker"

// ID is a parsed SPIFFE ID.
type ID struct {
	Principal Principal
	Role      Role
	Node      string // brokers only
}

// ParseID checks a SPIFFE ID of a trust domain: lower-case scheme and domain, plain path
// segments, nothing that two readers could read differently. Source: SPIFFE-ID, section 2.
func ParseID(uri, trustDomain string) (ID, error) {
	if len(uri) > idBytesMax {
		return ID{}, fmt.Errorf("it has %d bytes, at most %d are allowed", len(uri), idBytesMax)
	}
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] >= 0x7f {
			return ID{}, fmt.Errorf("byte %#02x at %d is not allowed", uri[i], i)
		}
	}
	id, err := spiffeid.FromString(uri)
	switch {
	case err != nil:
		return ID{}, err
	case id.String() != uri:
		return ID{}, errors.New("it is not in its one spelling")
	case id.TrustDomain().Name() != trustDomain:
		return ID{}, fmt.Errorf("trust domain is %q, expected %q", id.TrustDomain().Name(), trustDomain)
	case id.Path() == "":
		return ID{}, errors.New("it has no path")
	}
	return roleOf(uri, strings.Split(id.Path()[1:], "/"))
}

// roleOf tells nodes from clients.
func roleOf(uri string, segments []string) (ID, error) {
	if segments[0] != brokerPath {
		return ID{Principal: Principal(uri), Role: RoleClient}, nil
	}
	if len(segments) != 2 {
		return ID{}, fmt.Errorf("a node is spiffe://TRUST-DOMAIN/%s/NODE, with one segment for NODE", brokerPath)
	}
	return ID{Principal: Principal(uri), Role: RoleBroker, Node: segments[1]}, nil
}

// ClientID is the conventional identity of a client.
func ClientID(trustDomain, name string) string { return "spiffe://" + trustDomain + "/client/" + name }

// CheckNode says whether a node can have an id: nil, or why not.
func CheckNode(node string) error {
	const anyDomain = "example.org"
	_, err := ParseID(BrokerID(anyDomain, node), anyDomain)
	return err
}

// BrokerID is the identity of a node.
func BrokerID(trustDomain, node string) string {
	return "spiffe://" + trustDomain + "/" + brokerPath + "/" + node
}

// CheckTrustDomain reports whether td can be a trust domain.
func CheckTrustDomain(td string) error {
	got, err := spiffeid.TrustDomainFromString(td)
	if err != nil {
		return fmt.Errorf("trust domain %q: %w", td, err)
	}
	if got.Name() != td {
		return fmt.Errorf("trust domain %q: write it as %q", td, got.Name())
	}
	return nil
}
