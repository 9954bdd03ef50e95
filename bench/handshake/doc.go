// Package handshake speaks to a broker over TLS that it sets up itself, to measure what the public client hides: one key exchange
// and no other, sessions that are resumed or not, and the bytes that go over the wire. It also is the floor that a broker's
// handshakes are compared with: a server of crypto/tls and nothing else.
//
// Its connections say HELLO and publish one record at a time; they do nothing that a client needs besides. Identity and the checks of the
// broker's certificate are those of every client (package identity).
package handshake
