// Package client is the Go client of the Waxwing message broker.
//
// The certificate is the account: there is no user name and no password, the identity
// in the client's certificate says who it is, and the policy what it may do.
//
//	c, err := client.Dial(ctx, client.Options{
//		Servers:  []string{"broker.example.org:7420"},
//		CertFile: "orders.crt", KeyFile: "orders.key", CAFile: "roots.crt",
//	})
//
// # Publishing
//
// Publish sends one record and waits until it is durable on a majority of the brokers.
// PublishAsync returns a Future instead, and records that are published while others
// are on their way travel together: there is no timer to tune, a lone record leaves at
// once and a flood makes large batches. Options.WindowBytes bounds what is
// unacknowledged; beyond it PublishAsync waits.
//
// A record is stored exactly once although the client repeats it: every batch carries
// a producer id, an epoch and a sequence, and what is unanswered when a connection
// breaks is sent again with the same numbers. Every publish ends in one of three ways:
// stored (an Ack), not stored (DeniedError, RejectedError, or an error matching
// ErrTimeout or ErrClosed), or unknown (UnknownOutcomeError).
//
// # Reading
//
// Subscribe opens a stream of messages of one or more topics. Every message carries
// the verified identity of its publisher. The broker sends ahead as much as the window
// allows and gets credit back as the program reads, so a slow reader only falls
// behind. After a lost connection the stream goes on at the next record.
//
// # Connection
//
// Dial returns only after the broker has welcomed the client. From then on the client
// reconnects by itself, with a random, growing pause, to any of Options.Servers, and
// resumes the TLS session. Certificate files are watched; the next connection uses the
// new ones. Requests that find no connection wait for one as long as their context,
// or Options.RequestTimeout, allows.
//
// # Errors
//
// Errors are typed, for errors.As, and match sentinels, for errors.Is. Each says what
// was tried, on what, why it failed, and what to do next. TLS failures are translated
// (TLSError).
//
// # What it does not do
//
// It does not compress, it does not spool to disk, and it keeps no state across
// restarts of the program: a record that was not acknowledged before a crash is the
// program's to publish again.
package client
