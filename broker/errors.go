package broker

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// This file is the only place where faults of the rooms below become codes of the wire.

// fault is a request's failure as the client will see it.
type fault struct {
	code     protocol.Code
	outcome  protocol.Outcome
	text     string
	limit    string // key of the limit, for the metric
	decision policy.Decision
	incident string
}

func (f *fault) Error() string { return f.code.String() + ": " + f.text }

var errShutdown = &fault{code: protocol.CodeShutdown, text: "the node is stopping; connect to another one or try again"}

func invalid(format string, args ...any) *fault {
	return &fault{code: protocol.CodeInvalid, text: fmt.Sprintf(format, args...)}
}

// message is the ERROR frame of a fault.
func (f *fault) message() *protocol.Error {
	return &protocol.Error{Code: f.code, Outcome: f.outcome, Text: f.text, Incident: f.incident,
		Rule: f.decision.Rule, Line: uint64(f.decision.Line), PolicyVer: f.decision.Version}
}

// faultOf turns any error into a fault. What is not known here is internal: the client
// gets an incident number, the log gets the rest.
func (s *Server) faultOf(err error) *fault {
	var (
		known   *fault
		outcome *cluster.OutcomeError
		limit   *batch.LimitError
		format  *batch.FormatError
		syntax  *topic.SyntaxError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &outcome):
		return outcomeFault(outcome)
	case errors.As(err, &limit):
		return &fault{code: protocol.CodeTooLarge, text: limit.Error(), limit: recordLimits[limit.What]}
	case errors.As(err, &format):
		return invalid("the records are malformed: %v", format)
	case errors.As(err, &syntax):
		return invalid("%v", syntax)
	}
	incident := rand.Text()[:12]
	s.log.Error("internal error", "incident", incident, "error", err)
	return &fault{code: protocol.CodeInternal, text: "internal error; the broker's log has the details under incident " + incident, incident: incident}
}

// recordLimits are the keys of what batch calls its limits.
var recordLimits = map[string]string{
	"record bytes": "record_bytes", "batch bytes": "batch_bytes", "batch records": "batch_records",
	"key bytes": "key_bytes", "header bytes": "header_bytes", "headers": "header_count",
}

// outcomeFault keeps apart what will never appear and what may.
func outcomeFault(e *cluster.OutcomeError) *fault {
	if e.Outcome == cluster.Unknown {
		return &fault{code: protocol.CodeUnknownOutcome, outcome: protocol.OutcomeUnknown, text: e.Error() + "; send it again with the same producer, epoch and sequence to find out"}
	}
	f := &fault{outcome: protocol.OutcomeRejected, text: e.Error()}
	switch {
	case errors.Is(e, cluster.ErrNotLeader):
		f.code = protocol.CodeNotLeader
	case errors.Is(e, cluster.ErrNoLeader):
		f.code = protocol.CodeNoQuorum
	case errors.Is(e, cluster.ErrStale):
		f.code = protocol.CodeStale
	case errors.Is(e, cluster.ErrFull):
		f.code = protocol.CodeFull
	case errors.Is(e, state.ErrVersion), errors.Is(e, cluster.ErrMixed):
		f.code = protocol.CodeUnsupported
	case errors.Is(e, cluster.ErrRefused), errors.Is(e, state.ErrMalformed):
		f.code = protocol.CodeInvalid
	case errors.Is(e, cluster.ErrShutdown):
		f.code = protocol.CodeShutdown
	default:
		f.code = protocol.CodeOverloaded
	}
	return f
}

// statusCodes are the codes of what the state machine refuses.
var statusCodes = map[state.Status]protocol.Code{
	state.StatusNotFound:  protocol.CodeNotFound,
	state.StatusExists:    protocol.CodeExists,
	state.StatusRecreated: protocol.CodeRecreated,
	state.StatusSequence:  protocol.CodeSequence,
	state.StatusFenced:    protocol.CodeFenced,
	state.StatusConflict:  protocol.CodeConflict,
	state.StatusLimit:     protocol.CodeLimit,
	state.StatusInvalid:   protocol.CodeInvalid,
}

// resultFault is nil if a command took effect.
func resultFault(r *state.Result) *fault {
	if r.Status.Done() {
		return nil
	}
	code, ok := statusCodes[r.Status]
	if !ok {
		code = protocol.CodeInternal
	}
	text := r.Text
	if text == "" {
		text = r.Status.String()
	}
	return &fault{code: code, outcome: protocol.OutcomeRejected, text: text}
}

// refusedCode is the code of a certificate that was refused.
func refusedCode(e *identity.RefusedError) protocol.Code {
	switch e.Reason {
	case identity.ReasonRevoked:
		return protocol.CodeRevoked
	case identity.ReasonExpired:
		return protocol.CodeExpired
	}
	return protocol.CodeIdentity
}
