package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// Group is one raft group on this node. Make it with Open, keep it going with Run. Its
// methods may be used by many goroutines.
type Group struct {
	options  Options
	dir      *DataDir
	store    *store
	raft     *raft.Raft
	fsm      *fsm
	installs *installs
	proposer proposer
	metrics  *metrics
	fail     func(error)
	reserve  reserve
	opened   time.Time

	links     *peer.Links // to other nodes; nil = a group of one
	transport *Transport
	times     timeouts
	forwarder *Forwarder // nil in a group of one
	intake    *Intake
	reads     reads
	met       met // what other nodes say of themselves
	seal      *identity.SealKey
	tickets   tickets
	contacts  *contacts
	work      sync.WaitGroup // of the links
	started   chan struct{}  // closed when raft is there
	caughtUp  atomic.Uint64  // the last term in which this node led and had applied all from before

	changing chan struct{} // cap 1, a semaphore: full while this node, as leader, changes members
	ripe     ripening      // Owned by whoever has it.
	wanted   chan struct{} // cap 1: members are to change
	gone     chan struct{} // closed when this node knows that it was removed

	ready    chan struct{} // closed when the log was replayed and the group can write
	refused  chan error    // cap 1: why it never will
	stall    stall         // a write of the raft log takes too long
	stopped  chan struct{} // closed when Shutdown begins
	dead     chan struct{} // closed when raft has shut down
	stopOnce sync.Once
	stopErr  error
}

// Open locks the data folder, opens the raft log and starts raft; an empty folder becomes
// a group with this node as its only voter. Nothing is proposed before Run.
func Open(ctx context.Context, o Options) (*Group, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("open group: %w", err)
	}
	g := &Group{options: o, metrics: newMetrics(o.Registerer), opened: time.Now(), ready: make(chan struct{}), refused: make(chan error, 1), started: make(chan struct{}), changing: make(chan struct{}, 1), wanted: make(chan struct{}, 1), gone: make(chan struct{}), stopped: make(chan struct{}), dead: make(chan struct{})}
	var once sync.Once
	g.fail = func(err error) { once.Do(func() { o.Fail(err) }) }
	g.proposer.init(o.QueueBytes)
	g.stall.init()
	g.met.init()
	g.initReads()
	if err := g.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open group: %w", err), g.close())
	}
	return g, ctx.Err()
}

// open builds the chain folder -> log -> raft.
func (g *Group) open() error {
	var err error
	if g.dir = g.options.Lock; g.dir == nil {
		if g.dir, err = Lock(g.options.Dir, g.options.NodeID); err != nil {
			return err
		}
	}
	if g.options.Peers != nil {
		if g.seal, err = g.dir.sealKey(g.options.Logger); err != nil {
			return err
		}
	}
	dir := filepath.Join(g.options.Dir, raftDir)
	g.reserve.init(dir, int64(g.options.LogFileBytes))
	if err := g.reserve.look(g.options.Log.Space()); err != nil {
		return err
	}
	if g.store, err = openStore(dir, g.options.LogFileBytes, &g.reserve, g.options.Log.Head, g.options.Logger, g.fail, g.metrics); err != nil {
		return err
	}
	if err := g.store.settle(dir); err != nil {
		return err
	}
	logs, err := raft.NewLogCache(logCacheEntries, g.store)
	if err != nil {
		return err
	}
	g.fsm = &fsm{limits: g.options.Limits, machine: state.New(g.options.Limits), log: g.options.Log, filling: newFilling(g.options.SegmentBytes), fail: g.fail}
	g.installs = newInstalls(&g.options, g.store, g.fsm, g.metrics)
	g.options.Log.OnSeal(g.compact)
	if err := g.startRaft(logs, g.store); err != nil {
		return err
	}
	if r := g.options.Registerer; r != nil {
		r.MustRegister(newFigures(g))
	}
	return g.checkServers()
}

// logCacheEntries is how many of the newest entries followers are served from memory.
const logCacheEntries = 64

// startRaft bootstraps an empty group of one and starts raft. Several begin later (gather).
func (g *Group) startRaft(logs raft.LogStore, stable raft.StableStore) error {
	conf := raftConfig(g.options.NodeID)
	conf.Logger = raftLogger(g.options.Logger)
	defer close(g.started)
	p := g.options.peers
	switch {
	case g.options.Peers != nil:
		p = g.connect(conf)
	case p == nil:
		g.noForwarding()
		p = nobody(conf)
	}
	snapshots := snapshots{g.options.Log, g.installs}
	g.installs.dial = p.segments
	fresh, err := isFresh(logs, stable, g.options.Log, g.alone())
	if err != nil {
		return err
	}
	if fresh && p.servers != nil {
		if err := raft.BootstrapCluster(conf, logs, stable, snapshots, p.transport, raft.Configuration{Servers: p.servers}); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	g.raft, err = newRaft(conf, g.fsm, logs, stable, snapshots, p.transport)
	if err == nil {
		g.installs.raft.Store(g.raft)
	}
	return errors.Join(err, g.fsm.broken) // raft only logs why it could not restore
}

// newRaft starts raft, which reads the whole log at start and panics at an entry that cannot be read:
// here that is an error.
func newRaft(c *raft.Config, f raft.FSM, logs raft.LogStore, stable raft.StableStore, snapshots raft.SnapshotStore, transport raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("start raft: %v", p)
			if cause, ok := p.(error); ok {
				err = fmt.Errorf("start raft: %w", cause)
			}
		}
	}()
	return raft.NewRaft(c, f, logs, stable, snapshots, transport)
}

// peers are the other members, and how raft speaks to them.
type peers struct {
	transport raft.Transport
	servers   []raft.Server // the first members, this node among them; nil = they come later

	// segments opens a link of purpose segments to a node; nil = this node takes no installs.
	segments func(ctx context.Context, to raft.Server) (net.Conn, error)
}

// alone are the election timeouts of a group of one: there is nobody to disturb, and a
// restart should be over at once.
const alone = 50 * time.Millisecond

// nobody makes a group of one, which talks to nobody.
func nobody(c *raft.Config) *peers {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = alone, alone, alone
	c.CommitTimeout = alone / 2
	address, transport := raft.NewInmemTransport(raft.ServerAddress(c.LocalID))
	return &peers{transport: transport, servers: []raft.Server{{ID: c.LocalID, Address: address}}}
}

// raftConfig is DESIGN section 8.
func raftConfig(node string) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(node)
	c.MaxAppendEntries = 64
	c.BatchApplyCh = true
	c.SnapshotThreshold = 1 << 62
	c.SnapshotInterval = 24 * time.Hour
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false
	return c
}

// Run proposes what is queued, until ctx ends or Shutdown is called. It also waits for the
// replay and, on a new group, names the cluster.
func (g *Group) Run(ctx context.Context) error {
	peering, endPeers := context.WithCancel(ctx)
	g.runPeers(peering)
	landing := make(chan entry, fullInFlightMax)
	var wg sync.WaitGroup
	wg.Go(func() { g.commitLoop(landing) })
	wg.Go(func() { g.landLoop(landing) })
	watched, unwatch := context.WithCancel(ctx)
	wg.Go(func() { g.watchDisk(watched) })
	wg.Go(func() { g.reads.confirming.run(watched) })
	wg.Go(func() { g.findLoop(watched) })
	err := g.becomeReady(ctx)
	if err != nil {
		g.refused <- err
	} else {
		g.runLoops(ctx, &wg)
		select {
		case <-ctx.Done():
		case <-g.stopped:
		}
	}
	answerAll(g.proposer.close(), rejected(ErrShutdown))
	unwatch()
	wg.Wait()
	endPeers()
	g.work.Wait()
	return err
}

// runLoops starts what a node does beside its clients. A recovery does nothing beside itself.
func (g *Group) runLoops(ctx context.Context, wg *sync.WaitGroup) {
	if g.options.recovers {
		return
	}
	wg.Go(func() { g.rotateLoop(ctx) })
	wg.Go(func() { g.markLoop(ctx) })
	wg.Go(func() { g.retainLoop(ctx) })
	wg.Go(func() { g.repairLoop(ctx) })
}

// Propose queues a command (package state) and returns; done gets its answer. Only the leader takes it: Submit is for
// requests of clients. The group owns cmd from now on. Propose waits while the queue is full.
func (g *Group) Propose(cmd []byte, done Done) {
	if g.stall.is() {
		done(state.Result{}, 0, rejected(ErrStalled))
		return
	}
	if state.CommandKind(cmd) == state.CommandRecover {
		done(state.Result{}, 0, rejected(errRecoverRunning))
		return
	}
	if _, self := g.Leader(); !self && !g.alone() {
		done(state.Result{}, 0, rejected(ErrNotLeader))
		return
	}
	if kind := state.CommandKind(cmd); kind > state.FirstCommands {
		if err := g.knows(kind); err != nil {
			done(state.Result{}, 0, rejected(err))
			return
		}
	}
	if err := g.proposer.add(proposal{cmd, done}); err != nil {
		done(state.Result{}, 0, err)
	}
}

// Do proposes a command and waits for its answer. When ctx ends first the outcome is unknown.
func (g *Group) Do(ctx context.Context, cmd []byte) (state.Result, uint64, error) {
	return wait(ctx, func(done Done) { g.Propose(cmd, done) })
}

// Space is what the disk has for publishes: the last look at it, less what was taken since and what waits.
func (g *Group) Space() storage.Space {
	s := g.options.Log.Space()
	s.Take(uint64(storage.DiskFactor * g.proposer.size()))
	return s
}

// View is the state as last applied: an immutable snapshot.
func (g *Group) View() *state.View { return g.fsm.machine.View() }

// WaitApplied returns when the entry of an index is applied and its batches are readable.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error { return g.fsm.wait(ctx, index) }

// Watch returns a channel that gets a signal after topics, policy or revocations changed: look
// at View then. Several changes may share a signal. cancel ends it.
func (g *Group) Watch() (changed <-chan struct{}, cancel func()) { return g.fsm.watch() }

// Leader names the leader, "" if there is none, and says whether it is this node.
func (g *Group) Leader() (id string, self bool) {
	_, leader := g.raft.LeaderWithID()
	return string(leader), string(leader) == g.options.NodeID
}

// Ready waits until the log was replayed and writes are possible.
func (g *Group) Ready(ctx context.Context) error {
	select {
	case <-g.ready:
		return nil
	case err := <-g.refused:
		g.refused <- err
		return err
	case <-g.gone:
		return ErrRemoved
	case <-g.stopped:
		return ErrShutdown
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Status is what a group says of itself.
type Status struct {
	Group   string
	Node    string
	Leader  string
	Term    uint64
	Applied uint64
	First   uint64 // first index of the raft log
	Last    uint64 // last index of the raft log
	Ready   bool
}

// Status returns the group's status now.
func (g *Group) Status() Status {
	leader, _ := g.Leader()
	first, _ := g.store.FirstIndex()
	s := Status{First: first, Group: GroupName, Node: g.options.NodeID, Leader: leader, Term: g.raft.CurrentTerm(), Applied: g.raft.AppliedIndex(), Last: g.raft.LastIndex()}
	select {
	case <-g.ready:
		s.Ready = true
	default:
	}
	return s
}

// Shutdown stops proposing, stops raft and closes the log. Commands in flight get an
// answer first, until ctx ends. Run must be running or have returned.
func (g *Group) Shutdown(ctx context.Context) error {
	g.stopOnce.Do(func() {
		close(g.stopped)
		answerAll(g.proposer.close(), rejected(ErrShutdown))
		done := make(chan error, 1)
		go func() {
			g.HandOver(ctx)
			done <- g.close()
		}()
		select {
		case g.stopErr = <-done:
		case <-ctx.Done():
			g.stopErr = fmt.Errorf("shut down group: %w", context.Cause(ctx))
		}
	})
	return g.stopErr
}

// HandOver makes another node lead, if this one does and there are others: they need not miss it first. It returns once
// another one leads and this one knows it, which takes milliseconds; it gives up after handOverTimeout, or when ctx ends.
// Meanwhile this node goes on serving; what it gets goes to the next leader.
func (g *Group) HandOver(ctx context.Context) {
	if g.alone() || g.raft.State() != raft.Leader || !g.succeeded() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	news, forget := g.leaderNews()
	defer forget()
	for ctx.Err() == nil && g.raft.State() == raft.Leader {
		g.tryHandOver(ctx)
	}
	for ctx.Err() == nil {
		if leader, self := g.Leader(); leader != "" && !self {
			g.options.Logger.Info("leadership handed over", "leader", leader)
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
	g.options.Logger.Warn("leadership was not handed over in time")
}

// succeeded says whether there is another node that may lead.
func (g *Group) succeeded() bool {
	return slices.ContainsFunc(g.servers(), func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && string(s.ID) != g.options.NodeID
	})
}

// Times of handing over. raft itself gives up an attempt after an election timeout.
const (
	handOverTimeout = 3 * time.Second
	handOverPause   = 50 * time.Millisecond // between two attempts
)

// tryHandOver is one attempt; after one that failed it pauses.
func (g *Group) tryHandOver(ctx context.Context) {
	err := g.giveUp(ctx, nil)
	if err == nil {
		return
	}
	g.options.Logger.Info("leadership was not handed over; it is tried again", "error", err)
	select {
	case <-time.After(handOverPause):
	case <-ctx.Done():
	}
}

// close ends what open started, in reverse.
func (g *Group) close() error {
	var errs []error
	if g.installs != nil {
		g.installs.close()
	}
	if g.links != nil { // before raft, which waits for its requests to end
		errs = append(errs, g.transport.Close(), g.links.Shutdown(context.Background()))
	}
	if g.raft != nil {
		errs = append(errs, g.raft.Shutdown().Error())
		close(g.dead)
	}
	if g.store != nil {
		errs = append(errs, g.store.close())
	}
	if g.dir != nil && !g.options.recovers {
		errs = append(errs, g.dir.Close())
	}
	return errors.Join(errs...)
}
