package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// fleet is several whole nodes that form a cluster by themselves: mutual TLS, links, raft, raft-wal, storage, as a program runs
// them; only the network is in memory. Use it in a synctest bubble.
type fleet struct {
	t       *testing.T
	root    string
	prefix  string // of addresses, so that fleets can share a network
	pki     *identitytest.PKI
	network *memnet.Network
	ids     []string
	at      map[string]string // addresses that are not those of address
	nodes   map[string]*member
	log     *slog.Logger // nil = none

	registries map[string]*prometheus.Registry // of nodes, as they started last
}

func newFleet(t *testing.T, ids ...string) *fleet {
	f := &fleet{t: t, root: t.TempDir(), pki: identitytest.New(t), network: &memnet.Network{}, ids: ids, nodes: map[string]*member{}, registries: map[string]*prometheus.Registry{}}
	t.Cleanup(f.stopAll)
	return f
}

func (f *fleet) dir(id string) string { return filepath.Join(f.root, id) }

func (f *fleet) address(id string) string {
	if at := f.at[id]; at != "" {
		return at
	}
	return f.prefix + id + ":7421"
}

// options are a node's, all of them of one join list.
func (f *fleet) options(id string) *cluster.Peers {
	p := &cluster.Peers{Identity: f.pki.Source(id), Software: "test", Client: id + ":7420", Expect: len(f.ids), Dial: f.network.DialContext}
	for _, n := range f.ids {
		p.Join = append(p.Join, cluster.Node{ID: n, Address: f.address(n)})
	}
	return p
}

// start runs a node; fail hears of its end.
func (f *fleet) start(id string, change ...func(*cluster.Peers)) *member {
	f.t.Helper()
	m, err := f.open(id, change...)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *fleet) open(id string, change ...func(*cluster.Peers)) (*member, error) {
	fail := func(err error) { f.t.Errorf("%s: fail-stop: %v", id, err) }
	lock, err := cluster.Lock(f.dir(id), id)
	if err != nil {
		return nil, err
	}
	log, err := storage.Open(storage.Options{Dir: filepath.Join(f.dir(id), "storage"), Replicated: true, GuardBytes: storage.GuardMin(storage.SegmentBytesDefault), Fail: fail})
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	p := f.options(id)
	for _, c := range change {
		c(p)
	}
	facts := func() cluster.Facts {
		return cluster.Facts{Software: "test", PID: 7, CertUntil: p.Identity.Status().NotAfter}
	}
	if p.Listener, err = f.network.Listen(f.address(id)); err != nil {
		return nil, errors.Join(err, lock.Close(), log.Close())
	}
	g, err := cluster.Open(context.Background(), cluster.Options{Dir: f.dir(id), NodeID: id, Lock: lock, Log: log, Fail: fail, Peers: p, Logger: f.log, Facts: facts, Registerer: f.registry(id)})
	if err != nil {
		return nil, errors.Join(err, log.Close(), p.Listener.Close())
	}
	m := &member{id: raft.ServerID(id), Group: g, Log: log}
	m.stop = m.run()
	f.nodes[id] = m
	return m, nil
}

// registry is a new one for a node.
func (f *fleet) registry(id string) prometheus.Registerer {
	if f.registries == nil {
		return nil
	}
	f.registries[id] = prometheus.NewRegistry()
	return f.registries[id]
}

func (f *fleet) startAll() {
	for _, id := range f.ids {
		f.start(id)
	}
}

func (f *fleet) stop(id string) {
	f.t.Helper()
	if err := f.nodes[id].stop(); err != nil {
		f.t.Errorf("stop %s: %v", id, err)
	}
	delete(f.nodes, id)
}

// kill takes a node off the network and ends it: it can hand nothing over.
func (f *fleet) kill(id string) {
	f.t.Helper()
	f.nodes[id].Group.Links().Suspend(errors.New("the test killed it"))
	f.stop(id)
}

// stopAll stops all at once.
func (f *fleet) stopAll() {
	var stopping sync.WaitGroup
	for id, m := range f.nodes {
		stopping.Go(func() {
			if err := m.stop(); err != nil {
				f.t.Errorf("stop %s: %v", id, err)
			}
		})
	}
	stopping.Wait()
	clear(f.nodes)
}

// ready waits for nodes, and returns the leader.
func (f *fleet) ready(ids ...string) *member {
	f.t.Helper()
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
		if err := f.nodes[id].Group.Ready(ctx); err != nil {
			f.t.Fatalf("%s is not ready: %v; %+v", id, err, f.nodes[id].Group.Status())
		}
		cancel()
	}
	for range 600 {
		for _, id := range ids {
			if m := f.nodes[id]; m.leads() {
				return m
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.t.Fatal("no leader within a minute")
	return nil
}

// begun starts three nodes with some records.
func (f *fleet) begun() (leader *member, p topic.PartitionID) {
	f.startAll()
	leader = f.ready(f.ids...)
	p = createTopic(f.t, leader.Group, "orders")
	leader.fill(f.t, p, 0, 20)
	f.settle()
	return leader, p
}

// leads says whether a node leads and a majority follows it.
func (m *member) leads() bool {
	return m.Group.Raft().State() == raft.Leader && m.Group.Raft().Barrier(0).Error() == nil
}

// settle waits until the leader has told of all nodes and made a ticket key for them, and everybody has applied what it has.
func (f *fleet) settle() {
	f.t.Helper()
	leader := f.ready(f.running()...)
	for range 100 {
		if len(leader.Group.View().Members()) >= len(f.nodes) && f.ticketed(leader) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	last := leader.Group.Raft().LastIndex()
	for id, m := range f.nodes {
		for wait := 0; m.Group.Raft().AppliedIndex() < last; wait++ {
			if wait > 1200 {
				f.t.Fatalf("%s has applied entry %d, the leader has %d", id, m.Group.Raft().AppliedIndex(), last)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	synctest.Wait()
}

// ticketed says whether a node knows of a ticket key that all running nodes can open.
func (f *fleet) ticketed(m *member) bool {
	keys := m.Group.View().TicketKeys()
	for id := range f.nodes {
		if len(keys) == 0 {
			return false
		}
		if _, ok := keys[0].Copy(id); !ok {
			return false
		}
	}
	return true
}

func (f *fleet) running() (list []string) {
	for _, id := range f.ids {
		if f.nodes[id] != nil {
			list = append(list, id)
		}
	}
	return list
}

// same compares the states of all that run.
func (f *fleet) same() {
	f.t.Helper()
	f.settle()
	var first *member
	for _, id := range f.running() {
		m := f.nodes[id]
		if first == nil {
			first = m
		}
		if m.Group.Digest() != first.Group.Digest() {
			f.t.Errorf("%s and %s have other states", m.id, first.id)
		}
	}
}

var threeIDs = []string{"n1", "n2", "n3"}

func inFleet(t *testing.T, test func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFleet(t, threeIDs...)) })
}

// TestSeveralBegin: three empty nodes become a cluster, in whatever order they start and however late one of them is; not
// before all are there. It is the same cluster after all of them stopped, each by itself or all at once.
func TestSeveralBegin(t *testing.T) {
	for _, order := range [][]string{{"n1", "n2", "n3"}, {"n3", "n2", "n1"}, {"n2", "n1", "n3"}} {
		t.Run(strings.Join(order, ""), func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				f.start(order[0])
				f.start(order[1])
				time.Sleep(2 * time.Minute)
				for id, m := range f.nodes {
					if s := m.Group.Status(); s.Leader != "" || s.Last != 0 || s.Ready {
						t.Fatalf("%s began without the third node: %+v", id, s)
					}
				}
				f.start(order[2])
				n := f.ready(f.ids...)
				cluster1 := n.Group.View().ClusterID()
				p := createTopic(t, n.Group, "orders")
				n.fill(t, p, 0, 20)
				f.same()
				checkMembers(t, f)

				f.stopAll()
				for _, id := range order {
					f.start(id)
				}
				n = f.ready(f.ids...)
				n.fill(t, p, 20, 40)
				f.same()
				for id, m := range f.nodes {
					if got := m.Group.View().ClusterID(); got != cluster1 || got == "" {
						t.Errorf("%s is of cluster %q, was of %q", id, got, cluster1)
					}
					m.holds(t, p, 40)
				}
			})
		})
	}
}

// checkMembers: the state of every node knows all nodes, their disks and addresses.
func checkMembers(t *testing.T, f *fleet) {
	t.Helper()
	for id, m := range f.nodes {
		list := m.Group.View().Members()
		if len(list) != len(f.ids) {
			t.Fatalf("%s knows %d nodes", id, len(list))
		}
		for i, member := range list {
			n := f.ids[i]
			if member.Node != n || member.Disk == "" || member.Peer != f.address(n) || member.Client != n+":7420" || member.Software != "test" || member.Commands != state.LatestCommand || member.Removed {
				t.Errorf("%s knows of %s: %+v", id, n, member)
			}
		}
		if leader, _ := m.Group.Leader(); m.Group.LeaderClient() != leader+":7420" {
			t.Errorf("%s: %s leads, clients find it at %q", id, leader, m.Group.LeaderClient())
		}
	}
}

// TestSeveralFollower: a follower answers proposals as rejected, and reads.
func TestSeveralFollower(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		n, p := f.begun()
		for _, m := range f.nodes {
			if m == n {
				continue
			}
			_, _, err := m.Group.Do(t.Context(), publish(p, 1, 20, smallBody(20)))
			var outcome *cluster.OutcomeError
			if !errors.As(err, &outcome) || outcome.Outcome != cluster.Rejected || !errors.Is(err, cluster.ErrNotLeader) {
				t.Errorf("%s: %v, want: rejected, it does not lead", m.id, err)
			}
			if err := errors.Join(m.Group.Rotate(t.Context()), m.Group.Retain(t.Context())); err != nil {
				t.Errorf("%s: %v", m.id, err)
			}
			m.holds(t, p, 20)
		}
		n.fill(t, p, 20, 21)
	})
}

// TestSeveralLeaderLost: without a sign of the leader another one leads within seconds and goes on; nothing that was
// acknowledged is lost, and what the old one could not commit is not acknowledged. It comes back as a follower.
func TestSeveralLeaderLost(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		p := createTopic(t, n.Group, "orders")
		at := 0
		for range 3 {
			n.fill(t, p, at, at+20)
			old := string(n.id)
			f.kill(old)
			start := time.Now()
			n = f.ready(f.running()...)
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("%v without a leader", took)
			}
			n.fill(t, p, at+20, at+40)
			at += 40
			f.start(old)
			f.same()
			n = f.ready(f.ids...)
		}
		for _, m := range f.nodes {
			m.holds(t, p, at)
		}
	})
}

// TestSeveralHandOver: a leader that is stopped makes another one lead first; nobody has to miss it.
func TestSeveralHandOver(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		n, p := f.begun()
		f.stop(string(n.id))
		led := false
		for wait := 0; wait < 4 && !led; wait++ { // less than it takes to miss a leader, also one that has closed its links
			for _, m := range f.nodes {
				led = led || m.Group.Raft().State() == raft.Leader
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !led {
			t.Error("the leader stopped, and nobody leads")
		}
		f.ready(f.running()...).fill(t, p, 20, 40)
	})
}

// TestR08NewDisk: a node whose disk was replaced, under its old id, gets no link and has no vote: with it and one other
// node there is no majority. With its old disk it is let in again.
func TestR08NewDisk(t *testing.T) {
	for _, lost := range []string{"n1", "n3"} { // n1 would begin a cluster
		t.Run(lost, func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				_, p := f.begun()
				f.stop(lost)
				if err := os.Rename(f.dir(lost), f.dir(lost)+".old"); err != nil {
					t.Fatal(err)
				}
				empty := f.start(lost)
				f.ready("n2", other2(lost)).fill(t, p, 20, 40)
				f.stop("n2")
				time.Sleep(time.Minute)
				for id, m := range f.nodes {
					if m.leads() {
						t.Errorf("%s leads with the vote of a node that lost its disk", id)
					}
				}
				if s := empty.Group.Status(); s.Last != 0 || s.Ready || s.Leader != "" {
					t.Errorf("the node without its disk: %+v", s)
				}
				f.start("n2")
				f.ready("n2", other2(lost)).fill(t, p, 40, 60)

				f.stop(lost)
				if err := errors.Join(os.RemoveAll(f.dir(lost)), os.Rename(f.dir(lost)+".old", f.dir(lost))); err != nil {
					t.Fatal(err)
				}
				f.start(lost)
				f.same()
				for _, m := range f.nodes {
					m.holds(t, p, 60)
				}
			})
		})
	}
}

func other2(lost string) string {
	if lost == "n1" {
		return "n3"
	}
	return "n1"
}

func refusedWith(err error) protocol.Code {
	refused, ok := errors.AsType[*peer.RefusedError](err)
	if !ok {
		return 0
	}
	return refused.Code
}

// TestSeveralStrangers: a node of another cluster of the same authority, with an id that is a member's here, gets no link,
// and nobody who was not named.
func TestSeveralStrangers(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		f.ready(f.ids...)
		f.settle()
		b := &fleet{t: t, root: t.TempDir(), prefix: "b-", pki: f.pki, network: f.network, ids: threeIDs, nodes: map[string]*member{}}
		defer b.stopAll()
		b.startAll()
		b.ready(b.ids...)
		raftLink := peer.Key{Group: cluster.GroupName, Purpose: protocol.PeerRaft}
		if _, err := b.nodes["n2"].Group.Links().Dial(t.Context(), "n1", f.address("n1"), raftLink); refusedWith(err) != protocol.CodeWrongCluster {
			t.Errorf("a node of another cluster: %v", err)
		}
		stranger := &fleet{t: t, root: t.TempDir(), prefix: "c-", pki: f.pki, network: f.network, ids: []string{"n7", "n8"}, nodes: map[string]*member{}}
		defer stranger.stopAll()
		n7 := stranger.start("n7")
		for id := range f.nodes {
			if _, err := n7.Group.Links().Dial(t.Context(), id, f.address(id), raftLink); refusedWith(err) != protocol.CodeNotMember {
				t.Errorf("a stranger dials %s: %v", id, err)
			}
			if _, err := f.nodes[id].Group.Links().Dial(t.Context(), "n7", stranger.address("n7"), raftLink); refusedWith(err) != protocol.CodeNotMember {
				t.Errorf("%s dials a stranger: %v", id, err)
			}
		}
	})
}

// TestSeveralOtherList: nodes whose join lists differ begin no cluster.
func TestSeveralOtherList(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.start("n1")
		f.start("n2")
		f.start("n3", func(p *cluster.Peers) {
			p.Join = append(p.Join, cluster.Node{ID: "n4", Address: f.address("n4")})
			p.Expect = 4
		})
		time.Sleep(time.Minute)
		for id, m := range f.nodes {
			if s := m.Group.Status(); s.Last != 0 || s.Leader != "" {
				t.Errorf("%s began: %+v", id, s)
			}
		}
		f.stop("n3")
		f.start("n3")
		f.ready(f.ids...)
	})
}

// TestD02Stall: a leader whose disk does not answer has no links any more, and gets no new ones: its followers miss it, and it
// can acknowledge nothing. When the disk answers again all go on.
func TestD02Stall(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		old, p := f.begun()
		release := old.Group.Hang()
		time.Sleep(8500 * time.Millisecond) // 5 s, the next look, and half a second without followers
		if old.Group.Raft().State() == raft.Leader {
			t.Error("it leads, though its disk hangs")
		}
		for id, m := range f.nodes {
			if m == old {
				continue
			}
			if _, err := m.Group.Links().Dial(t.Context(), string(old.id), f.address(string(old.id)), peer.Key{Group: cluster.GroupName, Purpose: protocol.PeerRaft}); refusedWith(err) != protocol.CodeOverloaded {
				t.Errorf("%s dials the node whose disk hangs: %v", id, err)
			}
		}
		release()
		f.ready(f.ids...).fill(t, p, 20, 40)
		f.same()
		old.holds(t, p, 40)
	})
}

// TestSeveralOptions: what cannot be a node of several is refused before anything starts.
func TestSeveralOptions(t *testing.T) {
	pki := identitytest.New(t)
	good := func() *cluster.Peers {
		return &cluster.Peers{Identity: pki.Source("n1"), Expect: 2, Join: []cluster.Node{{ID: "n1", Address: "h1:1"}, {ID: "n2", Address: "h2:1"}}}
	}
	for want, change := range map[string]func(*cluster.Peers){
		"no identity":         func(p *cluster.Peers) { p.Identity = nil },
		"node n2 twice":       func(p *cluster.Peers) { p.Join = append(p.Join, p.Join[1]) },
		"does not name this":  func(p *cluster.Peers) { p.Join = p.Join[1:] },
		"without id":          func(p *cluster.Peers) { p.Join[1].Address = "" },
		"join list names 2":   func(p *cluster.Peers) { p.Expect = 3 },
		"at most 9 may":       func(p *cluster.Peers) { p.Join, p.Expect = many(10), 10 },
		"which cannot become": nil,
	} {
		dir := t.TempDir()
		p := good()
		if change != nil {
			change(p)
		} else {
			alone(t, dir)
		}
		if err := openWith(t, dir, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func many(n int) (list []cluster.Node) {
	for i := range n {
		list = append(list, cluster.Node{ID: fmt.Sprintf("n%d", i+1), Address: "h:1"})
	}
	return list
}

// alone makes the folder of a group of one.
func alone(t *testing.T, dir string) {
	t.Helper()
	if err := openWith(t, dir, nil); err != nil {
		t.Fatal(err)
	}
}

// openWith opens a group and stops it.
func openWith(t *testing.T, dir string, p *cluster.Peers) error {
	t.Helper()
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	g, err := cluster.Open(t.Context(), cluster.Options{Dir: dir, NodeID: "n1", Log: log, StallReject: clustertest.Patience, StallEnd: clustertest.Patience, Peers: p})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	m := &member{Group: g, Log: log}
	m.stop = m.run()
	if p == nil {
		err = g.Ready(t.Context())
	}
	return errors.Join(err, m.stop())
}

// TestSeveralFolderAlone: the folder of a node of several is not opened as that of a group of one: it would wait for ever, or
// worse.
func TestSeveralFolderAlone(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		f.ready(f.ids...)
		f.stopAll()
		err := openWith(t, f.dir("n1"), nil)
		if err == nil || !strings.Contains(err.Error(), "with the nodes n1, n2, n3") {
			t.Errorf("%v", err)
		}
	})
}
