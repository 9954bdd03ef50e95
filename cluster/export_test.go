package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/storage/plan"
)

// Store is raft's log and stable store as a group uses it.
type Store interface {
	raft.LogStore
	raft.StableStore
	IsMonotonic() bool
	Close() error
}

type testStore struct{ *store }

func (s testStore) Close() error { return s.close() }

// OpenStore opens the store of a folder.
func OpenStore(dir string, fail func(error)) (Store, error) {
	return openTestStore(dir, func() (storage.Head, bool) { return storage.Head{}, false }, fail)
}

func openTestStore(dir string, sealed func() (storage.Head, bool), fail func(error)) (Store, error) {
	s, err := openStore(dir, 0, new(reserve), sealed, slog.New(slog.DiscardHandler), fail, newMetrics(nil))
	if err != nil {
		return nil, err
	}
	return testStore{s}, s.settle(dir)
}

// OpenWAL opens the raft log of a stopped node without a look at it.
func OpenWAL(dir string) (*wal.WAL, error) { return wal.Open(dir, wal.WithMetaStore(new(walMeta))) }

// OpenWALWith opens it as a node does, with files of so many bytes.
func OpenWALWith(dir string, fileBytes int) (*wal.WAL, error) {
	return openWAL(dir, slog.New(slog.DiscardHandler), fileBytes, nil, func(error) {})
}

// OutcomeOf is how an error of raft becomes an answer.
func OutcomeOf(err error) error { return outcomeOf(err) }

// Proposer is group commit without raft.
type Proposer struct{ p proposer }

func NewProposer(max int) *Proposer {
	p := &Proposer{}
	p.p.init(max)
	return p
}

func (p *Proposer) Add(size int) error { return p.p.add(proposal{cmd: make([]byte, size)}) }
func (p *Proposer) Landed()            { p.p.landed() }
func (p *Proposer) Close() int         { return len(p.p.close()) }

// Next returns how many commands the next entry carries, and whether there is one.
func (p *Proposer) Next() (int, bool) {
	taken, _, ok := p.p.next()
	return len(taken), ok
}

// Snapshots is raft's view of a log's sealed segments.
func Snapshots(log *storage.Log) raft.SnapshotStore { return snapshots{log: log} }

// OpenStoreOf is OpenStore beside the segments of a log.
func OpenStoreOf(dir string, log *storage.Log, fail func(error)) (Store, error) {
	return openTestStore(dir, log.Head, fail)
}

// Hang makes it look as if a write of the raft log had begun now and not returned, until release.
func (g *Group) Hang() (release func()) {
	number := g.store.busy.begin()
	return func() { g.store.busy.end(number) }
}

// SetPeers makes a node one of several: it speaks over t, fetches segments over links that segments opens, and servers are
// the first members.
func (o *Options) SetPeers(t raft.Transport, servers []raft.Server, segments func(context.Context, raft.Server) (net.Conn, error)) {
	o.peers = &peers{t, servers, segments}
}

// Raft is the group's raft.
func (g *Group) Raft() *raft.Raft { return g.raft }

// Store is the group's log.
func (g *Group) Store() Store { return testStore{g.store} }

// Digest is that of the state machine. Nothing may be applied meanwhile.
func (g *Group) Digest() [32]byte { return g.fsm.machine.Digest() }

// RaftConfig is how raft is set up.
func RaftConfig(node string) *raft.Config { return raftConfig(node) }

// LogWindow is how many entries stay below the sealed point.
const LogWindow = plan.LogWindow

// NewFSM is a state machine on a log, for what raft does with one offline.
func NewFSM(log *storage.Log) raft.FSM {
	return &fsm{machine: state.New(state.Limits{}), log: log, filling: newFilling(1 << 40), fail: func(error) {}}
}

// Sealed is an entry as it stands on disk.
func Sealed(l *raft.Log) *raft.Log { return withSeal(l) }

// Unseal checks an entry that was read.
func Unseal(l *raft.Log) error { return unseal(l) }

// ParseMark reads a MARK file.
func ParseMark(b []byte) (uint64, error) { return readMark(bytes.NewReader(b)) }

// ParseMeta reads a META file and writes what it read.
func ParseMeta(b []byte) (again []byte, err error) {
	c, err := parseMeta(b)
	if err != nil {
		return nil, err
	}
	return c.append(nil)
}

// Hints is how often the node asked early to be elected.
func (g *Group) Hints() int {
	r := prometheus.NewRegistry()
	r.MustRegister(g.metrics.hints)
	families, err := r.Gather()
	if err != nil {
		panic(err)
	}
	return int(families[0].GetMetric()[0].GetCounter().GetValue())
}

// Turn is the node's place among those that may follow a leader.
func (g *Group) Turn(leader string) int { return g.turn(leader, time.Minute) }

// Links are the group's links to other nodes.
func (g *Group) Links() *peer.Links { return g.links }

// OverALink is an answer at the other end of a link from node n1.
func OverALink(r *state.Result, index uint64, err error) (uint64, error, error) {
	a := forwardAnswer(r, index, err)
	_, err, bad := outcomeOfForwarded("n1", &a)
	return a.Index, err, bad
}

// SetCommands makes a node say, and hold itself to, another highest kind of command: that of an older program.
func (p *Peers) SetCommands(highest uint64) { p.commands = highest }

// TicketSecrets are what this node can open of the cluster's ticket keys, the newest first.
func (g *Group) TicketSecrets() []identity.TicketSecret { return g.openTickets(g.View()) }

// TicketDue says whether a leader makes a ticket key now if the newest was made at one time and first seen at another, and all
// nodes can open it.
func TicketDue(now, made, seen time.Time) bool {
	m := state.New(state.Limits{})
	entry := state.AppendEntryHeader(nil, made.UnixMilli())
	key := state.SealKey{1}
	for _, cmd := range [][]byte{
		state.AppendSetMember(nil, &state.SetMember{Member: state.Member{Node: "n1"}}), state.AppendSetSealKey(nil, &state.SetSealKey{Node: "n1", Key: key}),
		state.AppendSetTicketKey(nil, &state.SetTicketKey{Number: 1, Copies: []state.TicketCopy{{Node: "n1", To: key}}}),
	} {
		entry = state.AppendCommand(entry, cmd)
	}
	if err := m.Apply(1, entry, new(state.Effects)); err != nil {
		panic(err)
	}
	looked := minting{number: 1, since: seen}
	return looked.due(m.View(), m.View().Members(), true, now)
}

// HoldChanges keeps this node, as leader, from changing members until release.
func (g *Group) HoldChanges() (release func()) {
	g.changing <- struct{}{}
	return g.changed
}

// Rounds answers one question for many.
type Rounds struct{ r rounds }

// NewRounds makes rounds that find answers so.
func NewRounds(find func(context.Context) (uint64, error)) *Rounds {
	r := new(Rounds)
	r.r.init(find)
	return r
}

func (r *Rounds) Run(ctx context.Context)                 { r.r.run(ctx) }
func (r *Rounds) Ask(ctx context.Context) (uint64, error) { return r.r.ask(ctx) }
