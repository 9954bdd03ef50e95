package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Usages that a leaf must name, per role; the first is what the chain is verified for.
var (
	clientUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	peerUsages   = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
)

// ServerConfig is the config of one listener. It follows reloads and revocations by itself.
func (s *Source) ServerConfig(side Side) *tls.Config {
	outer := s.current.Load().configs[side].Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.current.Load().configs[side], nil
	}
	return outer
}

// newConfig builds the config of a side for one snapshot.
func (s *Source) newConfig(n *snapshot, side Side, ticketKeys [][32]byte) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*n.cert},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              n.roots,
		NextProtos:             side.protocols(),
		SessionTicketsDisabled: side != ClientSide,
		VerifyConnection:       func(cs tls.ConnectionState) error { return s.verify(side, cs) },
	}
	if side == ClientSide {
		c.SetSessionTicketKeys(ticketKeys)
	}
	return c
}

// verify is VerifyConnection of a listener.
func (s *Source) verify(side Side, cs tls.ConnectionState) error {
	err := s.refuse(side, cs)
	var refused *RefusedError
	if errors.As(err, &refused) {
		s.metrics.refused(side, refused.Reason)
		if side == ClientSide && !refused.ofChain() {
			return nil // Peer says it again, and the broker sends it as a frame
		}
	}
	return err
}

// refuse applies every rule of a side to a connection.
func (s *Source) refuse(side Side, cs tls.ConnectionState) error {
	if !slices.Contains(side.protocols(), cs.NegotiatedProtocol) {
		return &RefusedError{Reason: ReasonALPN, Detail: fmt.Sprintf("ALPN %q offered by nobody; this port speaks %v", cs.NegotiatedProtocol, side.protocols())}
	}
	_, err := s.examine(side, cs.PeerCertificates)
	return err
}

// Peer identifies the other end of a finished handshake. It applies every rule again; a
// *RefusedError means that the connection must be told and closed.
func (s *Source) Peer(cs tls.ConnectionState) (Peer, error) {
	side, ok := sideOf(cs.NegotiatedProtocol)
	if !ok {
		return Peer{}, &RefusedError{Reason: ReasonALPN, Detail: fmt.Sprintf("ALPN %q is of no listener", cs.NegotiatedProtocol)}
	}
	p, err := s.examine(side, cs.PeerCertificates)
	p.describe(&cs)
	return p, err
}

// Recheck applies every rule to a connection that lives already: its certificate may have expired, been
// revoked, or lost its issuer.
func (s *Source) Recheck(p *Peer) error {
	_, err := s.examine(p.side, p.presented)
	return err
}

// examine applies the rules of chain, identity, role and revocation.
func (s *Source) examine(side Side, presented []*x509.Certificate) (Peer, error) {
	n := s.current.Load()
	if len(presented) == 0 {
		return Peer{}, &RefusedError{Reason: ReasonNone, Detail: "no certificate was presented"}
	}
	leaf := presented[0]
	p := Peer{SPKI: SPKIHash(leaf), Serial: SerialText(leaf.SerialNumber), Issuer: leaf.Issuer.String(), Leaf: leaf, presented: presented, side: side}
	id, identityErr := identify(leaf, s.options.TrustDomain, s.options.Rules)
	p.Principal, p.Role, p.Node = id.Principal, id.Role, id.Node
	until, err := n.chain(side, id.Role, presented)
	if err != nil {
		return p, named(err, id)
	}
	p.NotAfter = until
	if identityErr != nil {
		return p, identityErr
	}
	return p, n.allowed(side, id, leaf)
}

// chain verifies for the usages of the role.
func (n *snapshot) chain(side Side, role Role, presented []*x509.Certificate) (time.Time, error) {
	if side == PeerSide || role == RoleBroker {
		return verifyChain(n.brokers, presented, n.roots, peerUsages, n.revokedIssuer)
	}
	return verifyChain(n.clients, presented, n.roots, clientUsages, n.revokedIssuer)
}

// allowed checks role and revocation of a known identity.
func (n *snapshot) allowed(side Side, id ID, leaf *x509.Certificate) error {
	if side == ClientSide && id.Role != RoleClient {
		return &RefusedError{Reason: ReasonRole, Identity: string(id.Principal), Detail: "a node's certificate gives no client rights; use a client certificate"}
	}
	if side == PeerSide && id.Role != RoleBroker {
		return &RefusedError{Reason: ReasonRole, Identity: string(id.Principal), Detail: "this port is for nodes (spiffe://TRUST-DOMAIN/broker/NODE); clients connect to the client port"}
	}
	if _, removed := n.removed[id.Node]; removed && side == PeerSide {
		return &RefusedError{Reason: ReasonRemoved, Identity: string(id.Principal), Detail: "the node was removed from the cluster; its id cannot be used again: join under a new one"}
	}
	how, revoked := n.revoked.check(id.Principal, leaf)
	if !revoked && len(n.crl) > 0 {
		_, revoked = n.crl[SerialKey{leaf.Issuer.String(), SerialText(leaf.SerialNumber)}]
		how = "the certificate is on the revocation list of its issuer"
	}
	if revoked {
		return &RefusedError{Reason: ReasonRevoked, Identity: string(id.Principal), Detail: how + "; get a new certificate or ask an admin"}
	}
	return nil
}

// revokedIssuer reports whether an intermediate is revoked, by the list or by a CRL of its issuer.
func (n *snapshot) revokedIssuer(l link) bool {
	_, key := n.revoked.SPKI[l.spki]
	_, serial := n.revoked.Serials[l.serial]
	_, listed := n.crl[l.serial]
	return key || serial || listed
}

// named adds the identity to a refusal of the chain, where one was readable.
func named(err error, id ID) error {
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Identity == "" {
		with := *refused
		with.Identity = string(id.Principal)
		return &with
	}
	return err
}

// DialConfig is the config of a link to another node. Nodes are known by their SPIFFE IDs, so the host name that was dialed
// says nothing: the other end must be broker/node of the trust domain, under every rule of the peer port. It follows
// reloads by being asked for each link.
func (s *Source) DialConfig(node string) *tls.Config {
	n := s.current.Load()
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           PeerSide.protocols(),
		InsecureSkipVerify:   true, // of the host name; the chain and all else is verified below
		VerifyConnection:     func(cs tls.ConnectionState) error { return s.verifyNode(cs, node) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return n.cert, nil },
	}
}

// verifyNode is VerifyConnection of a link that this node dials.
func (s *Source) verifyNode(cs tls.ConnectionState, node string) error {
	if err := s.refuse(PeerSide, cs); err != nil {
		return err
	}
	id, err := identify(cs.PeerCertificates[0], s.options.TrustDomain, nil)
	if err != nil {
		return err
	}
	if id.Node != node {
		return &RefusedError{Reason: ReasonRole, Identity: string(id.Principal), Detail: fmt.Sprintf("node %q was dialed; look at its address", node)}
	}
	return nil
}
