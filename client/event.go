package client

import (
	"fmt"
	"time"
)

// Event is something that happened which nobody asked for. Options.OnEvent gets
// those of the connection, SubscribeOptions.OnEvent those of a subscription. Tell
// them apart with a type switch on the pointer types below.
type Event interface {
	// String says it in words.
	String() string
	event()
}

// ConnectedEvent says that a broker welcomed the client.
type ConnectedEvent struct {
	Server  string // the address that was dialled
	Node    string
	Resumed bool // the TLS session was resumed
}

// DisconnectedEvent says that the connection was lost. The client reconnects.
type DisconnectedEvent struct {
	Server string
	Err    error
}

// ConnectFailedEvent says that an attempt to reconnect failed. The client goes on.
type ConnectFailedEvent struct {
	Err   error
	Retry time.Duration // when the next attempt is made
}

// ExpiringEvent warns that the certificate of this connection ends soon; the broker
// closes the connection then, and the client reconnects with what its files hold.
type ExpiringEvent struct{ NotAfter time.Time }

// ClosingEvent says that the broker is about to close the connection, and why.
type ClosingEvent struct{ Reason string }

// LeaderEvent says which broker leads now; Server is "" while there is none.
type LeaderEvent struct{ Server string }

// MovedEvent says that publishing has moved to a connection of its own, to the leader. Subscriptions and requests stay
// where they are.
type MovedEvent struct{ Server, Node string }

// PolicyEvent says that the policy has a new version.
type PolicyEvent struct{ Version uint64 }

// ReloadFailedEvent says that the certificate files changed to something that
// cannot be used. The client keeps the ones it has.
type ReloadFailedEvent struct{ Err error }

// AssignedEvent says that a topic or partition that was born after Subscribe joined
// the subscription, from its first record.
type AssignedEvent struct {
	Topic     string
	Partition uint32
}

// ResumedEvent says that the subscription goes on after a reconnect, at the record
// behind the last one received.
type ResumedEvent struct{}

// GapEvent says that records were removed (by retention) before this subscription
// read them: the next one has offset To. It is also the error that Next returns
// when SubscribeOptions.OnEvent is nil; reading may go on after it.
type GapEvent struct {
	Topic     string
	Partition uint32
	From, To  int64 // [From, To) is gone
}

// RecreatedEvent says that a topic was deleted or created anew, so that what was
// left of it will not come. It is also the error that Next returns when
// SubscribeOptions.OnEvent is nil; reading may go on after it. It matches
// ErrRecreated.
type RecreatedEvent struct{ Topic string }

// CutEvent says that the policy has taken a topic out of the subscription. It is
// also the error that Next returns when SubscribeOptions.OnEvent is nil; reading
// may go on after it. It matches ErrDenied.
type CutEvent struct {
	Topic string
	Text  string
}

func (*ConnectedEvent) event()     {}
func (*DisconnectedEvent) event()  {}
func (*ConnectFailedEvent) event() {}
func (*ExpiringEvent) event()      {}
func (*ClosingEvent) event()       {}
func (*LeaderEvent) event()        {}
func (*MovedEvent) event()         {}
func (*PolicyEvent) event()        {}
func (*ReloadFailedEvent) event()  {}
func (*AssignedEvent) event()      {}
func (*ResumedEvent) event()       {}
func (*GapEvent) event()           {}
func (*RecreatedEvent) event()     {}
func (*CutEvent) event()           {}

// String says it in words.
func (e *ConnectedEvent) String() string {
	return fmt.Sprintf("connected to node %s at %s (session resumed: %t)", e.Node, e.Server, e.Resumed)
}

// String says it in words.
func (e *DisconnectedEvent) String() string {
	return fmt.Sprintf("connection to %s lost: %v", e.Server, e.Err)
}

// String says it in words.
func (e *ConnectFailedEvent) String() string {
	return fmt.Sprintf("reconnect failed, next attempt in %s: %v", e.Retry, e.Err)
}

// String says it in words.
func (e *ExpiringEvent) String() string {
	return "the connection's certificate ends at " + e.NotAfter.UTC().Format(time.RFC3339)
}

// String says it in words.
func (e *ClosingEvent) String() string { return "the broker is closing the connection: " + e.Reason }

// String says it in words.
func (e *LeaderEvent) String() string {
	if e.Server == "" {
		return "there is no leader"
	}
	return "the leader is at " + e.Server
}

// String says it in words.
func (e *MovedEvent) String() string {
	return fmt.Sprintf("publishing has moved to the leader, node %s at %s", e.Node, e.Server)
}

// String says it in words.
func (e *PolicyEvent) String() string { return fmt.Sprintf("the policy has version %d", e.Version) }

// String says it in words.
func (e *ReloadFailedEvent) String() string {
	return fmt.Sprintf("certificate files not reloaded, the old ones stay in use: %v", e.Err)
}

// String says it in words.
func (e *AssignedEvent) String() string {
	return fmt.Sprintf("partition %d of %q joined the subscription", e.Partition, e.Topic)
}

// String says it in words.
func (e *ResumedEvent) String() string { return "the subscription goes on after a reconnect" }

// String says it in words.
func (e *GapEvent) String() string {
	return fmt.Sprintf("%d records of %q partition %d are gone (offsets %d to %d were removed by retention before they were read)",
		e.To-e.From, e.Topic, e.Partition, e.From, e.To-1)
}

// Error is String.
func (e *GapEvent) Error() string { return e.String() }

// String says it in words.
func (e *RecreatedEvent) String() string {
	return fmt.Sprintf("topic %q was deleted or created anew; what was left of it will not come", e.Topic)
}

// Error is String.
func (e *RecreatedEvent) Error() string { return e.String() }

// Is makes errors.Is(err, ErrRecreated) true.
func (e *RecreatedEvent) Is(target error) bool { return target == ErrRecreated }

// String says it in words.
func (e *CutEvent) String() string {
	return fmt.Sprintf("the policy took topic %q out of the subscription: %s", e.Topic, e.Text)
}

// Error is String.
func (e *CutEvent) Error() string { return e.String() }

// Is makes errors.Is(err, ErrDenied) true.
func (e *CutEvent) Is(target error) bool { return target == ErrDenied }
