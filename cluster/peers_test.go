package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// crew is a group of several real nodes in one process: raft, raft-wal, state machine and storage as they are, only the
// network is in memory. Use it in a synctest bubble.
type crew struct {
	t     *testing.T
	root  string
	ids   []raft.ServerID
	nodes map[raft.ServerID]*member
	apart map[raft.ServerID]bool // whom nobody reaches

	transport func(raft.ServerID) raft.Transport // nil = raft's own in memory
	segments  segmentNet
	suffrage  map[raft.ServerID]raft.ServerSuffrage
	fail      func(id raft.ServerID, err error) // of a fail-stop; nil = the test fails
	change    func(*cluster.Options)            // nil = as they are
	side      map[raft.ServerID]int             // who is on the same side of a partition; 0 = all are
}

// segmentNet are a crew's links for segments.
type segmentNet struct {
	mu    sync.Mutex
	dial  func(ctx context.Context, from raft.ServerID, to raft.Server) (net.Conn, error) // Guarded by mu. nil = pipes.
	nodes map[raft.ServerID]*cluster.Group                                                // Guarded by mu. Who can be reached.
	wrap  func(to raft.ServerID, c net.Conn) net.Conn                                     // Guarded by mu. nil = as it is.
	read  map[raft.ServerID]int64                                                         // Guarded by mu. Bytes that a node read from others.
	work  sync.WaitGroup
}

// connect opens a link from a node to another.
func (s *segmentNet) connect(ctx context.Context, from raft.ServerID, to raft.Server) (net.Conn, error) {
	s.mu.Lock()
	dial := s.dial
	s.mu.Unlock()
	if dial != nil {
		return dial(ctx, from, to)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.nodes[to.ID]
	if g == nil || s.nodes[from] == nil {
		return nil, fmt.Errorf("%s cannot be reached", to.ID)
	}
	a, b := net.Pipe()
	s.work.Go(func() {
		defer b.Close()
		g.ServeSegments(b)
	})
	var c net.Conn = &counted{a, s, from}
	if s.wrap != nil {
		c = s.wrap(to.ID, c)
	}
	return c, nil
}

// counted counts what a node reads.
type counted struct {
	net.Conn
	net  *segmentNet
	node raft.ServerID
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.net.read[c.node] += int64(n)
	return n, err
}

// fetched is what a node read so far.
func (s *segmentNet) fetched(id raft.ServerID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read[id]
}

func (s *segmentNet) setDial(dial func(ctx context.Context, from raft.ServerID, to raft.Server) (net.Conn, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dial = dial
}

func (s *segmentNet) setWrap(wrap func(to raft.ServerID, c net.Conn) net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrap = wrap
}

// member is one node of a crew.
type member struct {
	id    raft.ServerID
	Group *cluster.Group
	Log   *storage.Log
	link  *link
	stop  func() error
}

// link is a member's network.
type link struct {
	*raft.InmemTransport
	installs atomic.Int64 // snapshots that it tried to send
	size     atomic.Int64 // of the last one's stream
}

// AppendEntriesPipeline: replication is not pipelined (DESIGN section 8).
func (l *link) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (l *link) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	l.installs.Add(1)
	l.size.Store(args.Size)
	return l.InmemTransport.InstallSnapshot(id, to, args, resp, data)
}

// newCrew starts nodes that know each other.
func newCrew(t *testing.T, ids ...raft.ServerID) *crew { return newCrewOver(t, nil, ids...) }

// newCrewOver starts nodes over a network of the test's own.
func newCrewOver(t *testing.T, transport func(raft.ServerID) raft.Transport, ids ...raft.ServerID) *crew {
	return newCrewIn(t, t.TempDir(), transport, ids...)
}

// newCrewIn starts nodes in folders of a folder.
func newCrewIn(t *testing.T, root string, transport func(raft.ServerID) raft.Transport, ids ...raft.ServerID) *crew {
	c := &crew{t: t, transport: transport, root: root, ids: ids, nodes: map[raft.ServerID]*member{}, apart: map[raft.ServerID]bool{}}
	c.segments.nodes, c.segments.read = map[raft.ServerID]*cluster.Group{}, map[raft.ServerID]int64{}
	for _, id := range ids {
		c.start(id)
	}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.stop(id)
		}
		c.segments.work.Wait()
	})
	return c
}

func (c *crew) servers() (list []raft.Server) {
	for _, id := range c.ids {
		address := raft.ServerAddress(id)
		if c.transport != nil {
			address = cluster.Address(string(id), string(id))
		}
		list = append(list, raft.Server{ID: id, Address: address, Suffrage: c.suffrage[id]})
	}
	return list
}

func (c *crew) dir(id raft.ServerID) string { return filepath.Join(c.root, string(id)) }

// start opens a node on its folder. A fail-stop fails the test.
func (c *crew) start(id raft.ServerID) *member {
	c.t.Helper()
	m, err := c.open(id)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *crew) open(id raft.ServerID) (*member, error) {
	fail := func(err error) {
		if c.fail != nil {
			c.fail(id, err)
			return
		}
		c.t.Errorf("%s: fail-stop: %v", id, err)
	}
	lock, err := cluster.Lock(c.dir(id), string(id))
	if err != nil {
		return nil, err
	}
	m := &member{id: id}
	m.Log, err = storage.Open(storage.Options{Dir: filepath.Join(c.dir(id), "storage"), Replicated: true, GuardBytes: storage.GuardMin(storage.SegmentBytesDefault), Fail: fail})
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	_, inner := raft.NewInmemTransport(raft.ServerAddress(id))
	m.link = &link{InmemTransport: inner}
	var over raft.Transport = m.link
	if c.transport != nil {
		over = c.transport(id)
	}
	o := cluster.Options{Dir: c.dir(id), NodeID: string(id), Lock: lock, Log: m.Log, Fail: fail, Logger: slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))}
	o.SetPeers(over, c.servers(), func(ctx context.Context, to raft.Server) (net.Conn, error) { return c.segments.connect(ctx, id, to) })
	if c.change != nil {
		c.change(&o)
	}
	m.Group, err = cluster.Open(context.Background(), o)
	if err != nil {
		return nil, errors.Join(err, m.Log.Close())
	}
	m.stop = m.run()
	c.nodes[id] = m
	c.wire()
	return m, nil
}

func (m *member) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Group.Run(ctx) })
	wg.Go(func() { _ = m.Log.Run(ctx) })
	return sync.OnceValue(func() error {
		err := m.Group.Shutdown(context.Background())
		cancel()
		wg.Wait()
		return errors.Join(err, m.Log.Close())
	})
}

// stop stops a node cleanly.
func (c *crew) stop(id raft.ServerID) {
	c.t.Helper()
	m := c.nodes[id]
	if err := m.stop(); err != nil {
		c.t.Errorf("stop %s: %v", id, err)
	}
	delete(c.nodes, id)
	c.wire()
}

// wire connects who runs and is not apart.
func (c *crew) wire() {
	c.segments.mu.Lock()
	clear(c.segments.nodes)
	for id, m := range c.nodes {
		if !c.apart[id] {
			c.segments.nodes[id] = m.Group
		}
	}
	c.segments.mu.Unlock()
	for _, a := range c.nodes {
		for _, id := range c.ids {
			b := c.nodes[id]
			if b == nil || b == a || c.apart[a.id] || c.apart[id] || c.side[a.id] != c.side[id] {
				a.link.Disconnect(raft.ServerAddress(id))
				continue
			}
			a.link.Connect(raft.ServerAddress(id), b.link.InmemTransport)
		}
	}
}

// cutOff takes a node off the network; heal brings it back.
func (c *crew) cutOff(id raft.ServerID) {
	c.apart[id] = true
	c.wire()
}

func (c *crew) heal() {
	clear(c.apart)
	c.side = nil
	c.wire()
}

// leader waits for the one that the connected nodes follow, and that can write.
func (c *crew) leader() *member {
	c.t.Helper()
	for range 600 {
		for _, m := range c.nodes {
			if !c.apart[m.id] && m.Group.Raft().State() == raft.Leader && m.Group.Raft().Barrier(0).Error() == nil && m.Group.View().ClusterID() != "" {
				return m
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatal("no leader within a minute")
	return nil
}

// followers are the connected ones that do not lead.
func (c *crew) followers() (list []*member) {
	leader := c.leader()
	for _, id := range c.ids {
		if m := c.nodes[id]; m != nil && m != leader && !c.apart[id] {
			list = append(list, m)
		}
	}
	return list
}

// settle waits until nodes have applied what the leader has, and everybody rests.
func (c *crew) settle(nodes ...*member) {
	c.t.Helper()
	last := c.leader().Group.Raft().LastIndex()
	for _, m := range nodes {
		for wait := 0; m.Group.Raft().AppliedIndex() < last; wait++ {
			if wait > 1200 {
				c.t.Fatalf("%s has applied entry %d, the leader has %d", m.id, m.Group.Raft().AppliedIndex(), last)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	synctest.Wait()
}

// pad appends so many entries without a command, in few writes.
func (m *member) pad(t *testing.T, entries int) {
	t.Helper()
	var futures []raft.ApplyFuture
	for range entries {
		futures = append(futures, m.Group.Raft().Apply(state.AppendEntryHeader(nil, 1), 0))
	}
	for _, f := range futures {
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
	}
}

// fill is fillTopic on the leader.
func (m *member) fill(t *testing.T, p topic.PartitionID, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r, _, err := m.Group.Do(t.Context(), publish(p, 1, uint64(i), smallBody(i)))
		if err != nil || r.Status != state.StatusOK || r.Offset != topic.Offset(i) {
			t.Fatalf("publish %d: %+v, %v", i, r, err)
		}
	}
}

// seal cuts the active segment and waits until the nodes have sealed it and dropped their logs behind it.
func (c *crew) seal(nodes ...*member) storage.Head {
	c.t.Helper()
	leader := c.leader()
	number := leader.Group.View().Segment()
	if err := leader.Group.Rotate(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	for _, m := range append(nodes, leader) {
		if err := m.Log.WaitSealed(c.t.Context(), number); err != nil {
			c.t.Fatal(err)
		}
	}
	h, _ := leader.Log.Head()
	return h
}

// installs is how many snapshots anybody tried to send.
func (c *crew) installs() (sum int64) {
	for _, m := range c.nodes {
		sum += m.link.installs.Load()
	}
	return sum
}

// streamed is the size of the largest snapshot of those that were sent last.
func (c *crew) streamed() (most int64) {
	for _, m := range c.nodes {
		most = max(most, m.link.size.Load())
	}
	return most
}

// inCrew runs a test in a bubble.
func inCrew(t *testing.T, ids []raft.ServerID, test func(t *testing.T, c *crew)) {
	synctest.Test(t, func(t *testing.T) { test(t, newCrew(t, ids...)) })
}
