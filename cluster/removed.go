package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/peer"
)

// ErrRemoved says that this node was removed from its cluster.
var ErrRemoved = errors.New("this node was removed from the cluster, and its id cannot be used again: to use the machine again, empty the data folder and join under a new id")

// removedFile stands in the data folder of a node that was removed. Where it stands nothing starts.
const removedFile = "REMOVED"

// Removed is closed when this node has learned that it was removed, and should end.
func (g *Group) Removed() <-chan struct{} { return g.gone }

// removedLoop waits until this node knows that it was removed: the state says so, and raft's configuration does without it. From
// then on nobody needs it any more. Raft sends the new configuration to a node that it leaves out once, and no more; where that got lost,
// most of the others refusing this node's certificate says the same, since none does before its own configuration is without this node.
func (g *Group) removedLoop(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		m, known := g.View().Member(g.options.NodeID)
		servers := g.servers()
		if known && m.Removed && len(servers) > 0 && (!isServer(servers, g.options.NodeID) || g.refusedByMost(ctx, servers)) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	g.options.Logger.Error("removed", "error", ErrRemoved)
	if err := g.dir.markRemoved(); err != nil {
		g.options.Logger.Warn("the data folder could not be marked as that of a removed node", "error", err)
	}
	close(g.gone)
}

// refusedByMost says whether a majority of the other nodes refuses this one in TLS.
func (g *Group) refusedByMost(ctx context.Context, servers []raft.Server) bool {
	others, refused := 0, 0
	for _, s := range servers {
		node, address, err := splitAddress(s.Address)
		if err != nil || node == g.options.NodeID {
			continue
		}
		others++
		if _, err := g.askState(ctx, node, address); errors.Is(err, peer.ErrRefusedInTLS) {
			refused++
		}
	}
	return refused > others/2
}

// markRemoved keeps the folder from being started on again. Without the mark, after a crash, the node would start, be refused by
// all others, and wait: nothing depends on it.
func (d *DataDir) markRemoved() error {
	return errors.Join(writeSynced(filepath.Join(d.path, removedFile), nil), syncDir(d.path))
}

// isRemoved is an error if the folder is that of a node that was removed.
func (d *DataDir) isRemoved() error {
	_, err := os.Lstat(filepath.Join(d.path, removedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("data folder %s: %w", d.path, errors.Join(ErrRemoved, err))
}
