// Package peer makes links between nodes: mutual TLS on the peer port, then PEER_HELLO, and only then the first byte of
// what the link is for. PROTOCOL.md section 6 has the frames, DESIGN section 2.5 the rules.
//
// Invariants:
//
//   - Both ends check: TLS verifies chain, usage, trust domain, role, revocation and ALPN; PEER_HELLO names both nodes, and
//     the sender's name must be its certificate's.
//   - A handler gets a connection only after that. Nobody who is not a member reaches one.
//   - Every link is known: it ends when its certificate does, when it is revoked, when Suspend or Shutdown is called.
//     hashicorp/raft's NetworkTransport does not close what it accepted; this package does.
//
// It does not know what is sent over a link, nor who is a member: its owner says so.
package peer
