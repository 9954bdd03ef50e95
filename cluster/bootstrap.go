package cluster

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/storage"
)

// Keys under which raft keeps its votes.
const (
	termKey     = "CurrentTerm"
	voteTermKey = "LastVoteTerm"
	voteKey     = "LastVoteCand"
)

// isFresh says whether the group must be bootstrapped. raft's bootstrap first stores term 1, then the first
// entry; after a crash in between raft would take the group for an existing one without members
// and wait for ever. Such a term is taken back: nobody voted in it. A later term without a log means
// that the log of a node alone was lost. One of several may have voted before it got its first entry. With sealed segments
// an empty log is one that an install emptied.
func isFresh(logs raft.LogStore, stable raft.StableStore, log *storage.Log, alone bool) (bool, error) {
	if _, sealed := log.Head(); sealed {
		return false, nil // store.check has seen that they fit
	}
	last, err := logs.LastIndex()
	if err != nil || last > 0 {
		return false, err
	}
	term, err := stable.GetUint64([]byte(termKey))
	if err != nil {
		return false, err
	}
	voted, err := stable.GetUint64([]byte(voteTermKey))
	if err != nil {
		return false, err
	}
	switch {
	case (term > 1 || voted > 0) && alone:
		return false, fmt.Errorf("%w: it is empty, although term %d was reached", ErrCorrupt, max(term, voted))
	case term == 1 && voted == 0:
		return true, stable.SetUint64([]byte(termKey), 0)
	}
	return true, nil
}
