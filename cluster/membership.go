package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// mayLink says whether a node may have a link to this one (DESIGN section 2.5): it is in raft's newest configuration, or a
// member has named it to this node, and it has the disk that it is known by. One that was removed may as long as raft counts
// its vote. A node without a log lets in whom it was told to wait for; whom the join list names may always be asked, and ask, who
// belongs to the cluster.
func (g *Group) mayLink(h *protocol.PeerHello) error {
	m, known := g.View().Member(h.From)
	servers := g.servers()
	switch {
	case known && m.Removed && !isServer(servers, h.From):
		return fmt.Errorf("node %s was removed from the cluster; its id cannot be used again: join under a new one", h.From)
	case known && m.Disk != "" && m.Disk != h.Disk:
		return fmt.Errorf("node %s has another disk than the one it is known by: it has lost what it promised, and may not vote; remove it, and join under a new id", h.From)
	}
	named := g.options.Peers.names(h.From) && (len(servers) == 0 || h.Purpose == protocol.PeerControl)
	if named || isServer(servers, h.From) || g.met.introduced.names(h.From) {
		g.met.note(h)
		return nil
	}
	return fmt.Errorf("node %s is no member of the cluster", h.From)
}

// recheckAfter is how long after a change links are looked at. A node that was just removed gets the entry that says so.
const recheckAfter = time.Second

// recheckLoop has nodes that were removed refused in TLS, and ends the links of all that are no members any more.
func (g *Group) recheckLoop(ctx context.Context) {
	changed, cancel := g.Watch()
	defer cancel()
	for {
		g.options.Peers.Identity.SetRemoved(g.removed())
		g.links.Recheck()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(recheckAfter):
		case <-ctx.Done():
			return
		}
	}
}

// met is what links told of other nodes.
type met struct {
	news chan struct{} // cap 1

	introduced introduced

	mu    sync.Mutex
	nodes map[string]state.Member // Guarded by mu. By id; without address.
}

func (m *met) init() {
	m.news = make(chan struct{}, 1)
	m.nodes = map[string]state.Member{}
}

func (m *met) note(h *protocol.PeerHello) {
	told := state.Member{Node: h.From, Disk: h.Disk, Client: h.Client, Software: h.Software, Commands: h.Commands}
	if len(h.SealKey) == len(told.SealKey) {
		told.SealKey = state.SealKey(h.SealKey)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[h.From] == told {
		return
	}
	m.nodes[h.From] = told
	select {
	case m.news <- struct{}{}:
	default:
	}
}

func (m *met) of(node string) (state.Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	told, ok := m.nodes[node]
	return told, ok
}

// tellEvery is how often the leader looks whether the state knows all nodes.
const tellEvery = time.Second

// tellLoop makes the state know the nodes, as long as this node leads.
func (g *Group) tellLoop(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-g.met.news:
		case <-ctx.Done():
			return
		}
		err := g.tell(ctx)
		if text := fmt.Sprint(err); err != nil && text != said {
			said = text
			g.options.Logger.Warn("what other nodes say of themselves was not noted; it is tried again", "error", err)
		}
	}
}

// tell proposes what the state does not know yet of the nodes in raft's configuration.
func (g *Group) tell(ctx context.Context) error {
	if err := g.oneChange(ctx); err != nil {
		return err
	}
	defer g.changed()
	leads, err := g.leads()
	if !leads || err != nil {
		return err
	}
	var errs []error
	for _, s := range g.servers() {
		next, ok := g.self(), true
		if string(s.ID) != next.Node {
			next, ok = g.met.of(string(s.ID))
		}
		if !ok {
			continue
		}
		if _, next.Peer, err = splitAddress(s.Address); err != nil {
			return err
		}
		errs = append(errs, g.tellOne(ctx, next))
	}
	return errors.Join(errs...)
}

// tellOne proposes what is new of a node.
func (g *Group) tellOne(ctx context.Context, next state.Member) error {
	old, _ := g.View().Member(next.Node)
	if old.Removed {
		return nil
	}
	next.Peer = cmp.Or(old.Peer, next.Peer) // raft's follows the state's, see reconcile
	key := next.SealKey
	next.AtMs, next.SealKey = old.AtMs, old.SealKey
	var cmds [][]byte
	if next != old {
		cmds = append(cmds, state.AppendSetMember(nil, &state.SetMember{Member: next}))
	}
	if key != (state.SealKey{}) && key != old.SealKey && g.knows(state.CommandSetSealKey) == nil {
		cmds = append(cmds, state.AppendSetSealKey(nil, &state.SetSealKey{Node: next.Node, Key: key}))
	}
	for _, cmd := range cmds {
		r, _, err := g.Do(ctx, cmd)
		if err == nil && !r.Status.Done() {
			err = fmt.Errorf("node %s: %s", next.Node, r.Text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// self is what this node says of itself.
func (g *Group) self() state.Member {
	p := g.options.Peers
	return state.Member{Node: g.options.NodeID, Disk: g.dir.Disk(), Client: p.Client, Software: p.Software, Commands: p.commands, SealKey: g.seal.Public()}
}

// LeaderClient is where clients reach the leader, "" if that is not known.
func (g *Group) LeaderClient() string {
	leader, _ := g.Leader()
	m, _ := g.View().Member(leader)
	return m.Client
}
