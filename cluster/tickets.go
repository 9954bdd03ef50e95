package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/state"
)

// How the nodes of a cluster share the keys of TLS session tickets (DESIGN section 2.6): the leader makes a secret and proposes
// it sealed once for each node (identity.SealKey), each node opens its copy and makes its ticket keys from it. So the secret
// is in the memory of nodes only. A node that can open none uses secrets of its own, and whoever comes from another
// node shakes hands in full.

const (
	ticketEvery = 12 * time.Hour   // between two keys; each is used to open tickets for state.TicketKeyTTL
	ticketWait  = 10 * time.Second // between two keys made because a node could not open the newest; and a key waits so long for nodes that have not told to what to seal it
)

// tickets is what this node has opened.
type tickets struct {
	mu     sync.Mutex
	number uint64 // Guarded by mu. View.TicketNumber of what was given to identity.
}

// ticketLoop keeps this node's ticket keys those of the cluster and, while this node leads, makes new ones.
func (g *Group) ticketLoop(ctx context.Context) {
	changed, cancel := g.Watch()
	defer cancel()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var m minting
	said := ""
	for {
		g.takeTickets()
		if err := g.mint(ctx, &m); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			g.options.Logger.Warn("no new ticket key was made; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// takeTickets gives identity the secrets that this node can open, if they are others than before.
func (g *Group) takeTickets() {
	if g.options.Peers == nil {
		return
	}
	g.tickets.mu.Lock()
	defer g.tickets.mu.Unlock()
	v := g.View()
	if v.TicketNumber() == g.tickets.number {
		return
	}
	g.tickets.number = v.TicketNumber()
	secrets := g.openTickets(v)
	g.options.Peers.Identity.SetTicketSecrets(secrets)
	g.metrics.tickets.Set(float64(len(secrets)))
	g.options.Logger.Info("ticket keys", "newest", v.TicketNumber(), "of_cluster", len(v.TicketKeys()), "opened", len(secrets))
}

// openTickets opens this node's copies, the newest first.
func (g *Group) openTickets(v *state.View) (secrets []identity.TicketSecret) {
	for _, k := range v.TicketKeys() {
		c, ok := k.Copy(g.options.NodeID)
		if !ok || c.To != g.seal.Public() {
			continue
		}
		s, err := g.seal.Open(ticketInfo(v.ClusterID(), k.Number, c.Node), c.Sealed)
		if err != nil {
			g.options.Logger.Error("a ticket key was not opened", "number", k.Number, "error", err)
			continue
		}
		secrets = append(secrets, s)
	}
	return secrets
}

// ticketInfo binds a copy to its place: it opens nowhere else.
func ticketInfo(cluster string, number uint64, node string) []byte {
	return fmt.Appendf(nil, "waxwing ticket secret 1\ncluster %q\nnumber %d\nnode %q\n", cluster, number, node)
}

// minting is what the leader remembers between two looks.
type minting struct {
	number uint64    // of the newest key
	since  time.Time // when this node saw it first: if the clock was wrong when it was made, it gets old by this one
	lack   time.Time // since when a key is wanted that not all nodes could open; zero = none is
}

// mint makes a new ticket key if it is time for one, or if there is a node without a copy of the newest.
func (g *Group) mint(ctx context.Context, m *minting) error {
	if n := g.View().TicketNumber(); n != m.number {
		*m = minting{number: n, since: time.Now()}
	}
	leads, err := g.leads()
	if !leads || err != nil || g.knows(state.CommandSetTicketKey) != nil {
		return err
	}
	v, now := g.View(), time.Now()
	readers, all := g.readers(v)
	if v.ClusterID() == "" || !slices.ContainsFunc(readers, func(r state.Member) bool { return r.Node == g.options.NodeID }) || !m.due(v, readers, all, now) {
		return nil
	}
	c := state.SetTicketKey{Number: v.TicketNumber() + 1}
	secret := identity.NewTicketSecret()
	for _, r := range readers {
		sealed, err := identity.Seal(r.SealKey, ticketInfo(v.ClusterID(), c.Number, r.Node), secret)
		if err != nil {
			g.options.Logger.Warn("a node has told a key to which nothing can be sealed; it gets no ticket key", "node", r.Node, "error", err)
			continue
		}
		c.Copies = append(c.Copies, state.TicketCopy{Node: r.Node, To: r.SealKey, Sealed: sealed})
	}
	r, _, err := g.Do(ctx, state.AppendSetTicketKey(nil, &c))
	if err == nil && r.Status.Done() {
		g.options.Logger.Info("a new ticket key", "number", c.Number, "nodes", len(c.Copies))
	}
	return err // a conflict: members changed meanwhile, the next look sees them
}

// readers are the nodes that get a copy. all says whether they are all nodes of the cluster.
func (g *Group) readers(v *state.View) (list []state.Member, all bool) {
	all = true
	for _, s := range g.servers() {
		switch m, _ := v.Member(string(s.ID)); {
		case m.Removed:
		case m.SealKey == state.SealKey{}:
			all = false
		default:
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b state.Member) int { return strings.Compare(a.Node, b.Node) })
	return list[:min(len(list), state.TicketCopiesMax)], all
}

// due says whether a key is to be made now.
func (m *minting) due(v *state.View, readers []state.Member, all bool, now time.Time) bool {
	keys := v.TicketKeys()
	if len(keys) > 0 {
		if now.Sub(m.since) >= ticketEvery || now.UnixMilli()-keys[0].AtMs >= ticketEvery.Milliseconds() {
			return true
		}
		if !slices.ContainsFunc(readers, func(r state.Member) bool { return lacks(&keys[0], r) }) {
			m.lack = time.Time{}
			return false
		}
		if now.Sub(m.since) < ticketWait {
			return false
		}
	}
	if m.lack.IsZero() {
		m.lack = now
	}
	return all || now.Sub(m.lack) >= ticketWait
}

// lacks says whether a node could have a copy of a key, and has none.
func lacks(k *state.TicketKey, r state.Member) bool {
	c, _ := k.Copy(r.Node)
	return c.To != r.SealKey && identity.CheckSealKey(r.SealKey) == nil
}
