package client

import (
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// translate turns an ERROR frame into the client's typed error. This and
// connectFailed are the only places where wire or TLS errors become public ones.
func translate(op, resource, principal string, m *protocol.Error) error {
	err := definite(op, resource, principal, m)
	if m.Outcome == protocol.OutcomeUnknown {
		return &UnknownOutcomeError{Op: op, Resource: resource, Err: err}
	}
	return err
}

func definite(op, resource, principal string, m *protocol.Error) error {
	if m.Code == protocol.CodeDenied {
		return &DeniedError{Op: op, Resource: resource, Identity: principal, Rule: m.Rule, Line: m.Line, PolicyVersion: m.PolicyVer, Text: m.Text}
	}
	return &RejectedError{Op: op, Resource: resource, Code: m.Code, Text: m.Text, Incident: m.Incident}
}

// connectFailed translates what went wrong before WELCOME.
func connectFailed(server string, err error) error {
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return r
	}
	if t := identity.Explain(err); t != nil {
		return fmt.Errorf("connect to %s: %w", server, t)
	}
	return &ConnectError{Server: server, Err: err}
}

// retryable says whether a definite rejection may go away by itself.
func retryable(c protocol.Code) bool {
	switch c {
	case protocol.CodeOverloaded, protocol.CodeNotLeader, protocol.CodeNoQuorum, protocol.CodeStale,
		protocol.CodeNotCaughtUp, protocol.CodeShutdown, protocol.CodeTimeout, protocol.CodeExpired:
		return true
	}
	return false
}

// final says whether a refusal ends what waits for a connection: waiting for another
// attempt would be waiting for an administrator.
func final(err error) bool {
	r, ok := errors.AsType[*RefusedError](err)
	if !ok {
		return false
	}
	switch r.Code {
	case protocol.CodeIdentity, protocol.CodeRevoked, protocol.CodeDenied, protocol.CodeUnsupported:
		return true
	}
	return false
}
