package cluster

import (
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/state"
)

// ErrMixed rejects a command that not every node of the cluster can apply: one that runs an older program would have to stop.
var ErrMixed = errors.New("not every node knows this command yet; upgrade all nodes first")

// knows says whether every node in raft's newest configuration can apply a kind of command: nil, or who cannot. A node is
// taken at the lower of what the state has of it and what its links told since; one of which nothing is known counts as
// a first program.
func (g *Group) knows(kind uint64) error {
	if kind <= state.FirstCommands || g.alone() {
		return nil
	}
	for _, s := range g.servers() {
		if node := string(s.ID); g.commandsOf(node) < kind {
			return fmt.Errorf("%w: node %s", ErrMixed, node)
		}
	}
	return nil
}

// commandsOf is the highest kind of command that a node can apply.
func (g *Group) commandsOf(node string) uint64 {
	if node == g.options.NodeID {
		return g.options.Peers.commands
	}
	m, _ := g.View().Member(node)
	if told, met := g.met.of(node); met {
		m.Commands = min(m.Commands, told.Commands)
	}
	return max(m.Commands, state.FirstCommands)
}
