package client

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Errors to branch on with errors.Is. The typed errors below match them.
var (
	ErrOptions    = errors.New("client options")                         // Dial's options, or the files they name, cannot be used
	ErrClosed     = errors.New("closed")                                 // the client or subscription was closed
	ErrTimeout    = errors.New("timed out")                              // a time limit of the client or the broker was reached
	ErrDenied     = errors.New("denied by policy")                       // every *DeniedError
	ErrNotFound   = errors.New("not found")                              // no such topic, partition or entry
	ErrExists     = errors.New("already exists")                         // there, with other settings
	ErrConflict   = errors.New("changed by someone else meanwhile")      // a compare-and-set failed
	ErrRecreated  = errors.New("topic was deleted or created anew")      // the topic has another incarnation
	ErrTooLarge   = errors.New("too large")                              // a size limit
	ErrLimit      = errors.New("limit reached")                          // a count limit or quota
	ErrOverloaded = errors.New("broker is overloaded")                   // queues are full; try again later
	ErrFull       = errors.New("broker's disk is full")                  // publishes are refused until space returns
	ErrNoQuorum   = errors.New("no quorum")                              // the broker has no contact to a leader
	ErrPolicy     = errors.New("policy document is not valid")           // it does not compile, or its tests fail
	ErrLockout    = errors.New("change would lock out an administrator") // force to go on
	ErrCorrupt    = errors.New("stored data is damaged")                 // nothing was skipped
)

// sentinels is what a *RejectedError with this code matches.
func sentinel(c protocol.Code) error {
	switch c {
	case protocol.CodeDenied:
		return ErrDenied
	case protocol.CodeNotFound:
		return ErrNotFound
	case protocol.CodeExists:
		return ErrExists
	case protocol.CodeConflict:
		return ErrConflict
	case protocol.CodeRecreated:
		return ErrRecreated
	case protocol.CodeTooLarge:
		return ErrTooLarge
	case protocol.CodeLimit:
		return ErrLimit
	case protocol.CodeOverloaded:
		return ErrOverloaded
	case protocol.CodeFull:
		return ErrFull
	case protocol.CodeNoQuorum, protocol.CodeNotLeader:
		return ErrNoQuorum
	case protocol.CodePolicyInvalid:
		return ErrPolicy
	case protocol.CodeLockout:
		return ErrLockout
	case protocol.CodeCorrupt:
		return ErrCorrupt
	case protocol.CodeTimeout, protocol.CodeNotCaughtUp:
		return ErrTimeout
	}
	return nil
}

// TLSError is a TLS failure in words: what went wrong, with which certificate,
// what was expected and what came, and what to do.
type TLSError = identity.TLSError

// DeniedError says that the policy does not allow it, and which rule decided.
type DeniedError struct {
	Op            string // what was tried: "publish", "subscribe", ...
	Resource      string // on what: a topic or pattern, "" for verbs without a resource
	Identity      string // as whom, as the broker sees it
	Rule          string // the deciding rule; "" means no rule allows it
	Line          uint64 // its line in the policy document, 0 if none
	PolicyVersion uint64 // the version of the document that decided
	Text          string // the broker's words
}

// Error tells what was denied, to whom, by which rule.
func (e *DeniedError) Error() string {
	var b strings.Builder
	b.WriteString(where(e.Op, e.Resource))
	fmt.Fprintf(&b, ": denied for %s by ", e.Identity)
	text := e.Text
	if e.Rule == "" {
		b.WriteString("default")
		text = cmp.Or(text, "no rule allows it")
	} else {
		fmt.Fprintf(&b, "rule %s", e.Rule)
	}
	if e.Line != 0 {
		fmt.Fprintf(&b, ", line %d", e.Line)
	}
	fmt.Fprintf(&b, " of policy version %d", e.PolicyVersion)
	if text != "" {
		b.WriteString(": " + text)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrDenied) true.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// RejectedError says that the broker (or the client, before it sent anything)
// definitely did not do it: a rejected record will never appear.
type RejectedError struct {
	Op       string
	Resource string
	Code     protocol.Code
	Text     string // what, where, what to do next
	Incident string // id to look up in the broker's log, "" if none
}

// Error tells what was rejected and why.
func (e *RejectedError) Error() string {
	s := fmt.Sprintf("%s: rejected (%s)", where(e.Op, e.Resource), e.Code)
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Incident != "" {
		s += " [incident " + e.Incident + "]"
	}
	return s
}

// Is matches the sentinel of the code.
func (e *RejectedError) Is(target error) bool {
	want := sentinel(e.Code)
	return want != nil && target == want
}

// UnknownOutcomeError says that a write may have happened, once, or may not: its
// answer did not come. Publishing the same record anew could store it twice; to
// find out, read the topic. Err says why the answer is missing.
type UnknownOutcomeError struct {
	Op       string
	Resource string
	Err      error
}

// Error tells which write it was and why its outcome is unknown.
func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("%s: outcome unknown (it happened once or not at all; read back before repeating it): %v", where(e.Op, e.Resource), e.Err)
}

// Unwrap returns the reason.
func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// RefusedError says that TLS worked and the broker then refused the client.
type RefusedError struct {
	Server   string
	Code     protocol.Code
	Text     string
	Identity string // the identity that the broker saw, "" if it saw none
}

// Error tells which broker refused whom and why.
func (e *RefusedError) Error() string {
	as := "a certificate without identity"
	if e.Identity != "" {
		as = e.Identity
	}
	return fmt.Sprintf("connect to %s: refused (%s) as %s: %s", e.Server, e.Code, as, e.Text)
}

// Is matches the sentinel of the code.
func (e *RefusedError) Is(target error) bool {
	want := sentinel(e.Code)
	return want != nil && target == want
}

// ConnectError says that a broker could not be reached, or hung up before it
// welcomed the client.
type ConnectError struct {
	Server string
	Err    error
}

// Error tells which broker and why.
func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to %s: %v; check the address and that the broker is running", e.Server, e.Err)
}

// Unwrap returns the network error.
func (e *ConnectError) Unwrap() error { return e.Err }

// where joins operation and resource for an error text.
func where(op, resource string) string {
	if resource == "" {
		return op
	}
	return fmt.Sprintf("%s %q", op, resource)
}
