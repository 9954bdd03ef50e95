package cluster

import (
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// This file is the only place where outcomes become frames between nodes, and frames outcomes.

// forwardCodes are the reasons of a rejection on a link, the more special first.
var forwardCodes = []struct {
	err  error
	code protocol.Code
}{
	{ErrNotLeader, protocol.CodeNotLeader},
	{ErrStale, protocol.CodeStale},
	{ErrFull, protocol.CodeFull},
	{ErrShutdown, protocol.CodeShutdown},
	{ErrMixed, protocol.CodeUnsupported},
	{state.ErrVersion, protocol.CodeUnsupported},
	{state.ErrMalformed, protocol.CodeInvalid},
	{ErrOverloaded, protocol.CodeOverloaded},
}

// forwardAnswer is the answer to a command on its way to the node that forwarded it.
func forwardAnswer(r *state.Result, index uint64, err error) protocol.ForwardAnswer {
	if err == nil {
		return protocol.ForwardAnswer{Index: index, Result: state.AppendResult(nil, r)}
	}
	var o *OutcomeError
	if !errors.As(err, &o) || o.Outcome != Rejected {
		return protocol.ForwardAnswer{Outcome: protocol.OutcomeUnknown, Code: protocol.CodeUnknownOutcome, Text: reason(err), Index: index}
	}
	a := protocol.ForwardAnswer{Outcome: protocol.OutcomeRejected, Code: protocol.CodeOverloaded, Text: reason(err), Index: index}
	for _, c := range forwardCodes {
		if errors.Is(o.Err, c.err) {
			a.Code = c.code
			break
		}
	}
	return a
}

// reason is an error's text without its outcome, which travels beside it.
func reason(err error) string {
	if o, ok := errors.AsType[*OutcomeError](err); ok {
		return o.Err.Error()
	}
	return err.Error()
}

// outcomeOfForwarded is the reverse of forwardAnswer, on the node that forwarded the command to leader. bad says that
// the answer makes no sense.
func outcomeOfForwarded(leader string, a *protocol.ForwardAnswer) (r state.Result, err, bad error) {
	switch a.Outcome {
	case protocol.OutcomeNone:
		r, bad = state.DecodeResult(a.Result)
		return r, nil, bad
	case protocol.OutcomeRejected:
		return r, rejected(leaderError(leader, a)), nil
	case protocol.OutcomeUnknown:
		return r, unknown(leaderError(leader, a)), nil
	}
	return r, nil, fmt.Errorf("an outcome %d", a.Outcome)
}

// toldError is a reason that another node gave.
type toldError struct {
	text   string
	reason error // what to branch on
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.reason }

func leaderError(leader string, a *protocol.ForwardAnswer) error {
	e := &toldError{fmt.Sprintf("node %s: %s", leader, a.Text), ErrRefused}
	if a.Outcome == protocol.OutcomeUnknown {
		e.reason = ErrLost
		return e
	}
	for _, c := range forwardCodes {
		if c.code == a.Code {
			e.reason = c.err
		}
	}
	return e
}

// notSent says whether a command is known not to be in the log, now or later.
func notSent(err error) bool {
	o, ok := errors.AsType[*OutcomeError](err)
	return ok && o.Outcome == Rejected
}

// notLeader says whether a command was refused only because the node does not lead: it may be sent to the one that does.
func notLeader(err error) bool { return notSent(err) && errors.Is(err, ErrNotLeader) }
