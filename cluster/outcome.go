package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Outcome says what became of a command that was not applied here.
type Outcome uint8

// Outcomes.
const (
	Rejected Outcome = iota + 1 // it will never be applied
	Unknown                     // it may be applied, once, or never
)

func (o Outcome) String() string {
	if o == Rejected {
		return "rejected"
	}
	return "unknown"
}

// Reasons of an OutcomeError.
var (
	ErrNotLeader  = errors.New("this node is not the leader")
	ErrOverloaded = errors.New("the leader did not take the command in time")
	ErrStalled    = errors.New("the disk does not answer")
	ErrShutdown   = errors.New("the node is stopping")
	ErrLost       = errors.New("leadership was lost before the command was known to be committed")
	ErrFailed     = errors.New("the log failed")
	ErrNoLeader   = errors.New("this node has had no contact to a leader for 10 s")
	ErrLinkLost   = errors.New("the link to the leader was lost after the command was sent")
	ErrStale      = errors.New("the policy or the revocation list has changed since the request was judged")
	ErrFull       = errors.New("the disk of the leader is below its guard")
	ErrRefused    = errors.New("the leader refused the command")
)

// OutcomeError is the answer to a command that has no result.
type OutcomeError struct {
	Outcome Outcome
	Err     error
}

func (e *OutcomeError) Error() string { return fmt.Sprintf("%v (%v)", e.Err, e.Outcome) }
func (e *OutcomeError) Unwrap() error { return e.Err }

func rejected(err error) error { return &OutcomeError{Rejected, err} }
func unknown(err error) error  { return &OutcomeError{Unknown, err} }

// outcomeOf sorts what raft says about a proposal. Only what raft answers before it writes
// the entry is a rejection; everything else may still be committed (hazards R5).
func outcomeOf(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return rejected(ErrNotLeader)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return rejected(ErrOverloaded)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return rejected(ErrNotLeader)
	case errors.Is(err, raft.ErrLeadershipLost):
		return unknown(ErrLost)
	case errors.Is(err, raft.ErrRaftShutdown):
		return unknown(ErrShutdown)
	case errors.Is(err, ErrStalled): // it was handed to raft
		return unknown(ErrStalled)
	}
	return unknown(fmt.Errorf("%w: %w", ErrFailed, err))
}
