package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
)

// A linearizable read shows everything that was acknowledged before it was asked for, to whomever. Any node serves it: the leader
// makes sure that it still leads and says how far it has committed, the read index, and the node waits until it has applied that.
// There are no leases: clocks decide nothing (docs/decisions/0108).

// readTimeout bounds a search for the read index.
const readTimeout = 5 * time.Second

// ErrUnconfirmed says that no read index was found.
var ErrUnconfirmed = errors.New("no leader with a majority behind it said in time how far the log is committed")

// reads finds read indexes.
type reads struct {
	finding    rounds // on every node: from the leader, whoever that is
	confirming rounds // on the leader
	link       readLink
}

func (g *Group) initReads() {
	g.reads.finding.init(g.findReadIndex)
	g.reads.confirming.init(g.confirm)
}

// findLoop answers ReadIndex until ctx ends.
func (g *Group) findLoop(ctx context.Context) {
	g.reads.finding.run(ctx)
	g.reads.link.close()
}

// ReadIndex is how far a node must have applied the log so that a read there is linearizable: everything that was acknowledged
// before the call lies at or below. Many calls at once share the way to the leader and back. Without a majority it fails within
// 10 s at the latest, with ErrUnconfirmed.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) { return g.reads.finding.ask(ctx) }

// findReadIndex is one search, and is counted.
func (g *Group) findReadIndex(ctx context.Context) (uint64, error) {
	index, err := g.searchReadIndex(ctx)
	result := "found"
	if err != nil {
		result = "failed"
	}
	g.metrics.reads.WithLabelValues(result).Inc()
	return index, err
}

// searchReadIndex asks whoever leads, until somebody knows.
func (g *Group) searchReadIndex(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errors.New("it took too long"))
	defer cancel()
	for {
		index, err := g.askReadIndex(ctx, g.whoLeads())
		if err == nil {
			return index, nil
		}
		if refused, ok := errors.AsType[*peer.RefusedError](err); ok && refused.Code == protocol.CodeUnsupported {
			return 0, rejected(fmt.Errorf("%w: the leader runs a program that does not serve linearizable reads", ErrMixed))
		}
		select {
		case <-time.After(readPause):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
		}
	}
}

// readPause is between two attempts at a read index.
const readPause = 50 * time.Millisecond

// askReadIndex asks a leader.
func (g *Group) askReadIndex(ctx context.Context, l Leader) (uint64, error) {
	switch {
	case l.Self:
		return g.reads.confirming.ask(ctx)
	case l.Node != "" && g.links != nil:
		return g.reads.link.ask(ctx, g.links, l)
	}
	return 0, errors.New("this node knows of no leader")
}

// confirm is the read index, of the leader: how far it had committed at some time after the call at which a majority took it for the
// leader. In each term it has applied first what leaders before it committed (takes).
func (g *Group) confirm(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmTimeout, errors.New("no majority answered in time"))
	defer cancel()
	term := g.raft.CurrentTerm()
	if err := g.takes(); err != nil {
		return 0, err
	}
	index, asked := g.raft.CommitIndex(), g.contacts.ask()
	for {
		if err := within(ctx, confirmTimeout, g.raft.VerifyLeader()); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
		if g.confirmed(term, asked) {
			break
		}
	}
	if g.raft.CurrentTerm() != term {
		return 0, ErrNotLeader
	}
	if g.fsm.applied() >= index {
		return index, nil
	}
	return g.lastCommand(index), nil
}

// confirmTimeout bounds one confirmation. A leader without a majority steps down sooner.
const confirmTimeout = 2 * time.Second

// confirmed says whether a majority of the voters has followed this node, in a term, by its answer to a request that was sent after
// a question. VerifyLeader is not enough: it counts answers to requests of before, and those of learners.
func (g *Group) confirmed(term, asked uint64) bool {
	if g.contacts == nil { // alone
		return true
	}
	voters, following := 0, 0
	for _, s := range g.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == g.options.NodeID || g.contacts.of(string(s.ID)).follows(term, asked) {
			following++
		}
	}
	return following > voters/2
}
