package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// postal are nodes that forward to each other: mutual TLS links on a network in memory, real groups behind them.
type postal struct {
	*crew
	pki     *identitytest.PKI
	network memnet.Network
	posts   map[raft.ServerID]*post
}

// post is forwarding on one node.
type post struct {
	*cluster.Forwarder
	p      *postal
	id     raft.ServerID
	links  *peer.Links
	intake *cluster.Intake

	mu      sync.Mutex
	judged  cluster.Judged                                                       // Guarded by mu. What this node judges by.
	refuse  error                                                                // Guarded by mu. Why it takes nothing; nil = it leads if its group does.
	propose func(cmd []byte, done cluster.Done, pass func([]byte, cluster.Done)) // Guarded by mu. In the place of the group.
	conns   []net.Conn                                                           // Guarded by mu. What it dialed.
}

// inPostal runs a test in a bubble.
func inPostal(t *testing.T, ids []raft.ServerID, test func(t *testing.T, p *postal)) {
	synctest.Test(t, func(t *testing.T) {
		p := &postal{crew: newCrew(t, ids...), pki: identitytest.New(t), posts: map[raft.ServerID]*post{}}
		for _, id := range ids {
			p.setUp(id, 0)
		}
		test(t, p)
	})
}

// setUp starts forwarding on a node.
func (p *postal) setUp(id raft.ServerID, queueBytes int) *post {
	p.t.Helper()
	n := &post{p: p, id: id}
	group := func() *cluster.Group { return p.nodes[id].Group }
	pass := func(cmd []byte, done cluster.Done) { group().Propose(cmd, done) }
	propose := func(cmd []byte, done cluster.Done) {
		n.mu.Lock()
		f := n.propose
		n.mu.Unlock()
		if f == nil {
			pass(cmd, done)
			return
		}
		f(cmd, done, pass)
	}
	fresh := func() (cluster.Judged, uint64) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.judged, group().View().Applied()
	}
	n.intake = cluster.NewIntake(cluster.IntakeOptions{Propose: propose, Fresh: fresh, Lead: n.lead})
	n.links = peer.New(peer.Options{Node: string(id), Identity: p.pki.Source(string(id)), Dial: n.dial, Member: func(*protocol.PeerHello) error { return nil },
		Handlers: map[peer.Key]func(*peer.Conn){cluster.ForwardLink: n.intake.Handle}})
	n.Forwarder = cluster.NewForwarder(cluster.ForwarderOptions{Links: n.links, Propose: propose, Fresh: fresh, QueueBytes: queueBytes})
	l, err := p.network.Listen(address(id))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- n.links.Serve(ctx, l) }()
	go func() { done <- n.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := errors.Join(n.links.Shutdown(context.Background()), <-done, <-done); err != nil {
			p.t.Error(err)
		}
	})
	p.posts[id] = n
	return n
}

func address(id raft.ServerID) string { return "post-" + string(id) }

// dial notes what it dialed, so that the test can cut it.
func (n *post) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.p.network.DialContext(ctx, network, address)
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, c)
		n.mu.Unlock()
	}
	return c, err
}

// cut ends every link that the node has dialed.
func (n *post) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

func (n *post) lead() error {
	n.mu.Lock()
	refuse := n.refuse
	n.mu.Unlock()
	if refuse == nil && n.p.nodes[n.id].Group.Raft().State() != raft.Leader {
		return cluster.ErrNotLeader
	}
	return refuse
}

// set changes a node under its lock.
func (n *post) set(change func(n *post)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// follow tells a node that another leads.
func (n *post) follow(leader raft.ServerID) {
	n.SetLeader(cluster.Leader{Node: string(leader), Address: address(leader), Self: leader == n.id})
}

// pair is the leader, and a follower that follows it.
func (p *postal) pair() (leader, follower *post) {
	leader, follower = p.posts[p.leader().id], p.posts[p.followers()[0].id]
	leader.follow(leader.id)
	follower.follow(leader.id)
	return leader, follower
}

// reply is an answer.
type reply struct {
	n      int // which command
	result state.Result
	index  uint64
	err    error
}

// replies collects answers in their order.
type replies struct {
	mu   sync.Mutex
	list []reply // Guarded by mu.
}

func (r *replies) done(n int) cluster.Done {
	return func(result state.Result, index uint64, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, reply{n, result, index, err})
	}
}

func (r *replies) all() []reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// submit sends record n of a producer on its way.
func (n *post) submit(r *replies, part topic.PartitionID, number int) {
	n.Submit(cluster.Judged{}, publish(part, 1, uint64(number), smallBody(number)), r.done(number))
}

// ask submits a command and waits for its answer.
func (n *post) ask(j cluster.Judged, cmd []byte) reply {
	answered := make(chan reply, 1)
	n.Submit(j, cmd, func(r state.Result, index uint64, err error) { answered <- reply{0, r, index, err} })
	return <-answered
}

// wantInOrder checks that so many commands were answered, each once, in order, all applied.
func (r *replies) wantInOrder(t *testing.T, count int) {
	t.Helper()
	list := r.all()
	if len(list) != count {
		t.Fatalf("%d answers, want %d", len(list), count)
	}
	for i, a := range list {
		if a.n != i || a.err != nil || a.result.Status != state.StatusOK || a.result.Offset != topic.Offset(i) || a.index == 0 {
			t.Fatalf("answer %d: %+v", i, a)
		}
	}
}

// became is what became of a command: "ok", or outcome and reason.
func became(err error) string {
	o, ok := errors.AsType[*cluster.OutcomeError](err)
	switch {
	case err == nil:
		return "ok"
	case !ok:
		return "no outcome: " + err.Error()
	}
	for name, reason := range map[string]error{"not leader": cluster.ErrNotLeader, "no leader": cluster.ErrNoLeader, "link lost": cluster.ErrLinkLost, "stale": cluster.ErrStale,
		"overloaded": cluster.ErrOverloaded, "shutdown": cluster.ErrShutdown, "lost": cluster.ErrLost, "malformed": state.ErrMalformed, "version": state.ErrVersion, "refused": cluster.ErrRefused} {
		if errors.Is(err, reason) {
			return o.Outcome.String() + ": " + name
		}
	}
	return o.Outcome.String() + ": " + err.Error()
}

// TestForward: what a follower forwards is proposed in order and answered in order, with everything that the leader
// says; and what was applied there can be read here after the answer.
func TestForward(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		cmd := state.AppendCreateTopic(nil, &state.CreateTopic{Name: "orders", Spec: state.Spec{Partitions: 4096, MaxAgeMs: 5}, By: "test"})
		created := follower.ask(cluster.Judged{}, cmd)
		want, _ := p.nodes[leader.id].Group.View().Topic("orders")
		if d := cmp.Diff(want, created.result.Topic); created.err != nil || !created.result.Created || d != "" {
			t.Fatalf("%v %+v %s", created.err, created.result.Status, d)
		}
		if err := p.nodes[follower.id].Group.WaitApplied(t.Context(), created.index); err != nil {
			t.Fatal(err)
		}
		if _, ok := p.nodes[follower.id].Group.View().Topic("orders"); !ok {
			t.Error("the follower has applied the index and has no topic")
		}
		var r replies
		for i := range 5000 {
			follower.submit(&r, want.Partitions[0], i)
		}
		synctest.Wait()
		for len(r.all()) < 5000 {
			time.Sleep(10 * time.Millisecond)
		}
		r.wantInOrder(t, 5000)
		again := follower.ask(cluster.Judged{}, publish(want.Partitions[0], 1, 4999, smallBody(4999)))
		if again.err != nil || again.result.Status != state.StatusDuplicate || again.result.Offset != 4999 {
			t.Errorf("a repeat: %+v", again)
		}
		no := follower.ask(cluster.Judged{}, publish(want.Partitions[0], 1, 9999, smallBody(1)))
		if no.err != nil || no.result.Status != state.StatusSequence {
			t.Errorf("a gap in the sequence: %+v", no)
		}
		p.same(p.nodes[leader.id], p.nodes[follower.id])
	})
}

// withhold makes a node propose and keep the answers, until release passes them on; the answer must come from a goroutine
// of the group's, so release works them off in order.
func (n *post) withhold() (proposed func() int, release func()) {
	var mu sync.Mutex
	var kept []func()
	count, open := 0, false
	n.set(func(n *post) {
		n.propose = func(cmd []byte, done cluster.Done, pass func([]byte, cluster.Done)) {
			mu.Lock()
			count++
			mu.Unlock()
			pass(cmd, func(r state.Result, index uint64, err error) {
				mu.Lock()
				defer mu.Unlock()
				if open {
					done(r, index, err)
					return
				}
				kept = append(kept, func() { done(r, index, err) })
			})
		}
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return count }, func() {
		mu.Lock()
		defer mu.Unlock()
		open = true
		for _, f := range kept {
			f()
		}
		kept = nil
	}
}

// TestForwardCut: a link that is lost makes unknown what was sent, and nothing else; a repeat finds out.
func TestForwardCut(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		proposed, release := leader.withhold()
		var r replies
		for i := range 4 { // each is a batch of its own, and more are not sent while four are not answered
			follower.submit(&r, part, i)
			synctest.Wait()
		}
		for i := 4; i < 10; i++ {
			follower.submit(&r, part, i)
		}
		synctest.Wait()
		if n := proposed(); n != 4 || len(r.all()) != 0 {
			t.Fatalf("%d commands are proposed, %d answered; want 4 and 0", n, len(r.all()))
		}
		follower.cut()
		synctest.Wait()
		release()
		time.Sleep(time.Second)
		list := r.all()
		if len(list) != 10 {
			t.Fatalf("%d answers", len(list))
		}
		for i, a := range list {
			want := "unknown: link lost"
			if i >= 4 {
				want = "ok"
			}
			if a.n != i || became(a.err) != want {
				t.Errorf("answer %d: command %d: %s, want %s", i, a.n, became(a.err), want)
			}
		}
		for i := range 4 {
			if a := follower.ask(cluster.Judged{}, publish(part, 1, uint64(i), smallBody(i))); a.err != nil || a.result.Status != state.StatusDuplicate || a.result.Offset != topic.Offset(i) {
				t.Errorf("repeat of %d: %+v", i, a)
			}
		}
		p.settle(p.nodes[leader.id])
		p.nodes[leader.id].holds(t, part, 10)
	})
}

// TestForwardSilentLeader: a leader that takes and does not answer is given up after 10 s: unknown.
func TestForwardSilentLeader(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		synctest.Wait()
		_, release := leader.withhold()
		start := time.Now()
		if a := follower.ask(cluster.Judged{}, publish(part, 1, 0, smallBody(0))); became(a.err) != "unknown: link lost" || time.Since(start) != 10*time.Second {
			t.Errorf("%s after %v", became(a.err), time.Since(start))
		}
		release()
	})
}

// TestForwardNoLeader: without a leader a command waits 10 s, and is then rejected; one that appears in time gets it.
func TestForwardNoLeader(t *testing.T) {
	tests := map[string]struct {
		before, after func(p *postal, leader, follower *post) // at once, and after 9 s
		want          string
	}{
		"nobody leads":                  {func(_ *postal, _, f *post) { f.SetLeader(cluster.Leader{}) }, nil, "rejected: no leader"},
		"it cannot be reached":          {func(_ *postal, l, f *post) { f.SetLeader(cluster.Leader{Node: string(l.id), Address: "nowhere"}) }, nil, "rejected: no leader"},
		"its links are suspended":       {func(_ *postal, l, f *post) { l.links.Suspend(errors.New("test")); f.cut() }, nil, "rejected: no leader"},
		"it says that it does not lead": {func(_ *postal, l, f *post) { l.set(func(l *post) { l.refuse = cluster.ErrNotLeader }) }, nil, "rejected: no leader"},
		"one is elected":                {func(_ *postal, _, f *post) { f.SetLeader(cluster.Leader{}) }, func(_ *postal, l, f *post) { f.follow(l.id) }, "ok"},
		"it comes back":                 {func(_ *postal, l, f *post) { l.links.Suspend(errors.New("test")); f.cut() }, func(_ *postal, l, f *post) { l.links.Resume() }, "ok"},
		"it leads again":                {func(_ *postal, l, f *post) { l.set(func(l *post) { l.refuse = cluster.ErrNotLeader }) }, func(_ *postal, l, f *post) { l.set(func(l *post) { l.refuse = nil }) }, "ok"},
		"another leads":                 {func(_ *postal, l, f *post) { f.SetLeader(cluster.Leader{Node: string(l.id), Address: "nowhere"}) }, func(_ *postal, l, f *post) { f.follow(l.id) }, "ok"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inPostal(t, []raft.ServerID{"n1", "n2"}, func(t *testing.T, p *postal) {
				leader, follower := p.pair()
				part := createTopic(t, p.nodes[leader.id].Group, "orders")
				synctest.Wait()
				test.before(p, leader, follower)
				synctest.Wait()
				start := time.Now()
				var r replies
				for i := range 3 {
					follower.submit(&r, part, i)
				}
				time.Sleep(9 * time.Second)
				if len(r.all()) > 0 {
					t.Fatalf("answered after 9 s: %v", r.all())
				}
				if test.after != nil {
					test.after(p, leader, follower)
				}
				for len(r.all()) < 3 && time.Since(start) < time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(start); took > 10*time.Second+200*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				for i, a := range r.all() {
					if a.n != i || became(a.err) != test.want {
						t.Errorf("answer %d: command %d: %s, want %s", i, a.n, became(a.err), test.want)
					}
				}
				p.settle(p.nodes[leader.id])
				p.nodes[leader.id].holds(t, part, map[bool]int{true: 3}[test.want == "ok"])
			})
		})
	}
}

// TestForwardStale: what was judged under an older policy or revocation list than the leader's is not proposed.
func TestForwardStale(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		leader.set(func(n *post) { n.judged = cluster.Judged{Policy: 3, Revocations: 5} })
		for _, test := range []struct {
			judged cluster.Judged
			want   string
		}{
			{cluster.Judged{Policy: 2, Revocations: 5}, "rejected: stale"}, {cluster.Judged{Policy: 3, Revocations: 4}, "rejected: stale"}, {cluster.Judged{}, "rejected: stale"},
			{cluster.Judged{Policy: 3, Revocations: 5}, "ok"}, {cluster.Judged{Policy: 4, Revocations: 6}, "ok"},
		} {
			next := p.nodes[leader.id].Group.View()
			at, _ := next.Partition(part)
			a := follower.ask(test.judged, publish(part, 1, uint64(at.Next), smallBody(int(at.Next))))
			if became(a.err) != test.want || a.err != nil && a.index != next.Applied() {
				t.Errorf("judged by %+v: %s, index %d; want %s, %d", test.judged, became(a.err), a.index, test.want, next.Applied())
			}
		}
		p.settle(p.nodes[leader.id])
		p.nodes[leader.id].holds(t, part, 2)

		// The same for what waited for a leader, when this node becomes it.
		follower.set(func(n *post) { n.judged = cluster.Judged{Policy: 4, Revocations: 6} })
		follower.SetLeader(cluster.Leader{})
		synctest.Wait()
		var r replies
		follower.Submit(cluster.Judged{Policy: 3, Revocations: 6}, publish(part, 1, 2, smallBody(2)), r.done(0))
		follower.follow(follower.id)
		synctest.Wait()
		if list := r.all(); len(list) != 1 || became(list[0].err) != "rejected: stale" || list[0].index == 0 {
			t.Errorf("%+v", list)
		}
	})
}

// TestForwardBadCommands: a command that no machine could apply is rejected, by itself.
func TestForwardBadCommands(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		good := func(i int) []byte { return publish(part, 1, uint64(i), smallBody(i)) }
		follower.SetLeader(cluster.Leader{}) // so that all are one batch
		var r replies
		for i, cmd := range [][]byte{good(0), {}, {1}, good(1)[:20], append(good(1), 0), {1, 200, 0x90}, {9, 2}, good(1), make([]byte, protocol.ForwardCommandBytesMax+1)} {
			follower.Submit(cluster.Judged{}, cmd, r.done(i))
		}
		follower.follow(leader.id)
		time.Sleep(time.Second)
		got := map[int]string{}
		for _, a := range r.all() {
			got[a.n] = became(a.err)
		}
		malformed, version := "rejected: malformed", "rejected: version"
		want := map[int]string{0: "ok", 1: malformed, 2: malformed, 3: malformed, 4: malformed, 5: version, 6: version, 7: "ok", 8: "rejected: refused"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		p.settle(p.nodes[leader.id])
		p.nodes[leader.id].holds(t, part, 2)
	})
}

// TestForwardPressure: a slow leader stops reading, the follower's queue fills, and Submit waits; nothing is lost or
// reordered, and neither side holds more than its bounds.
func TestForwardPressure(t *testing.T) {
	const queueBytes, size, count = 24 << 20, 900 << 10, 40
	inPostal(t, []raft.ServerID{"n1"}, func(t *testing.T, p *postal) {
		leader := p.posts[p.leader().id]
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		proposed, release := leader.withhold()
		slow := p.setUp("n2", queueBytes) // a node that only forwards
		slow.follow(leader.id)
		var r replies
		submitted := make(chan int, count)
		body := []byte(strings.Repeat("x", size))
		go func() {
			for i := range count {
				slow.Submit(cluster.Judged{}, publish(part, 1, uint64(i), body), r.done(i))
				submitted <- i
			}
		}()
		time.Sleep(5 * time.Second)
		if n := len(submitted); n < queueBytes/size/2 || n > queueBytes/size {
			t.Errorf("%d commands of %d bytes were taken, the queue has %d bytes", n, size, queueBytes)
		}
		if n := proposed(); n < 4 || n > (4<<20)/size+1 {
			t.Errorf("the leader took %d commands of %d bytes without an answer", n, size)
		}
		release()
		for len(r.all()) < count {
			time.Sleep(10 * time.Millisecond)
		}
		r.wantInOrder(t, count)
	})
}

// TestForwardGarbage: whatever a node sends that is no FORWARD ends its link, and nothing of it is proposed.
func TestForwardGarbage(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		proposed, release := leader.withhold()
		release()
		good := (&protocol.Forward{Commands: [][]byte{publish(part, 1, 0, smallBody(0))}}).AppendFrame(nil, 1)
		for name, bytes := range map[string][]byte{
			"noise":                  []byte("GET / HTTP/1.1\r\n\r\n"),
			"a length that lies":     {0xff, 0xff, 0xff, 0xff},
			"an empty frame":         {0, 0, 0, 0},
			"another kind":           (&protocol.Ping{}).AppendFrame(nil, 1),
			"an answer":              (&protocol.Forwarded{}).AppendFrame(nil, 1),
			"no commands":            (&protocol.Forward{}).AppendFrame(nil, 1),
			"a number too high":      (&protocol.Forward{Commands: [][]byte{{1}}}).AppendFrame(nil, 2),
			"number 0":               (&protocol.Forward{Commands: [][]byte{{1}}}).AppendFrame(nil, 0),
			"half a frame, then not": good[:len(good)-1],
		} {
			c, err := follower.links.Dial(t.Context(), string(leader.id), address(leader.id), cluster.ForwardLink)
			if err != nil {
				t.Fatal(err)
			}
			c.Write(bytes)
			c.SetReadDeadline(time.Now().Add(11 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, context.DeadlineExceeded) || err == nil {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				t.Errorf("%s: the link is open", name)
			}
			c.Close()
		}
		if n := proposed(); n != 0 {
			t.Errorf("%d commands were proposed", n)
		}
	})
}

// fake makes n1 a node that takes one FORWARD and answers it with bytes, and n2 one that forwards.
func fake(t *testing.T, bytes []byte) (forwarder *post, end func()) {
	t.Helper()
	p := &postal{crew: &crew{t: t}, pki: identitytest.New(t), posts: map[raft.ServerID]*post{}}
	links := peer.New(peer.Options{Node: "n1", Identity: p.pki.Source("n1"), Member: func(*protocol.PeerHello) error { return nil },
		Handlers: map[peer.Key]func(*peer.Conn){cluster.ForwardLink: func(c *peer.Conn) {
			if _, err := protocol.NewFrameReader(c, 1<<20).Next(); err == nil && bytes != nil {
				c.Write(bytes)
				c.Read(make([]byte, 1)) // the other side must end it
			}
		}}})
	l, err := p.network.Listen(address("n1"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- links.Serve(context.Background(), l) }()
	f := p.setUp("n2", 0)
	return f, func() {
		f.SetLeader(cluster.Leader{})
		if err := errors.Join(links.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	}
}

// TestForwardAnswers: an answer that makes no sense ends the link, and what was sent and not answered is unknown. What the
// leader refused because it does not lead goes to the next one only if nothing behind it was answered: answers keep their order.
func TestForwardAnswers(t *testing.T) {
	ok := protocol.ForwardAnswer{Index: 7, Result: state.AppendResult(nil, &state.Result{})}
	no := protocol.ForwardAnswer{Outcome: protocol.OutcomeRejected, Code: protocol.CodeNotLeader}
	stops := protocol.ForwardAnswer{Outcome: protocol.OutcomeRejected, Code: protocol.CodeShutdown}
	frame := func(id uint64, answers ...protocol.ForwardAnswer) []byte {
		return (&protocol.Forwarded{Answers: answers}).AppendFrame(nil, id)
	}
	lost := []string{"unknown: link lost", "unknown: link lost"}
	for name, test := range map[string]struct {
		bytes []byte
		want  []string
	}{
		"noise":                             {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), lost},
		"a length that lies":                {[]byte{0x7f, 0xff, 0xff, 0xff}, lost},
		"another kind":                      {(&protocol.OK{}).AppendFrame(nil, 1), lost},
		"to another batch":                  {frame(2, ok), lost},
		"too many":                          {frame(1, ok, ok, ok), lost},
		"none":                              {frame(1), lost},
		"a result cut short":                {frame(1, protocol.ForwardAnswer{Result: []byte{1}}), lost},
		"no result":                         {frame(1, protocol.ForwardAnswer{}), lost},
		"an unknown outcome":                {frame(1, protocol.ForwardAnswer{Outcome: 3}), lost},
		"a second that is wrong":            {frame(1, ok, protocol.ForwardAnswer{Result: []byte{2}}), lost},
		"the end":                           {nil, lost},
		"one, then noise":                   {append(frame(1, ok), frame(9, ok)...), []string{"ok", "unknown: link lost"}},
		"one, then silence":                 {frame(1, ok), []string{"ok", "unknown: link lost"}},
		"one after the other":               {append(frame(1, ok), frame(1, ok)...), []string{"ok", "ok"}},
		"refused, then applied":             {frame(1, no, ok), []string{"rejected: not leader", "ok"}},
		"refused, then noise":               {append(frame(1, no), frame(9, ok)...), []string{"rejected: not leader", "unknown: link lost"}},
		"both refused":                      {frame(1, no, no), []string{"rejected: no leader", "rejected: no leader"}},
		"both refused by a node that stops": {frame(1, stops, stops), []string{"rejected: no leader", "rejected: no leader"}},
		"a reason of a later version":       {frame(1, protocol.ForwardAnswer{Outcome: protocol.OutcomeRejected, Code: 9999}, ok), []string{"rejected: refused", "ok"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, end := fake(t, test.bytes)
				var r replies
				for i := range 2 {
					f.Submit(cluster.Judged{}, fmt.Append(nil, i), r.done(i))
				}
				f.follow("n1")
				time.Sleep(time.Second)
				f.SetLeader(cluster.Leader{})
				time.Sleep(10 * time.Second)
				var got []string
				for i, a := range r.all() {
					if a.n != i {
						t.Errorf("answer %d is to command %d", i, a.n)
					}
					got = append(got, became(a.err))
				}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Error(d)
				}
				end()
			})
		})
	}
}

// TestForwardDialHangs: a node that accepts and says nothing holds nobody up once another leads.
func TestForwardDialHangs(t *testing.T) {
	inPostal(t, []raft.ServerID{"n1", "n2"}, func(t *testing.T, p *postal) {
		leader, follower := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		silent, err := p.network.Listen("silent")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		go func() {
			if c, err := silent.Accept(); err == nil {
				t.Cleanup(func() { c.Close() })
			}
		}()
		follower.SetLeader(cluster.Leader{Node: string(leader.id), Address: "silent"})
		var r replies
		follower.submit(&r, part, 0)
		time.Sleep(time.Second)
		follower.follow(leader.id)
		time.Sleep(time.Second)
		r.wantInOrder(t, 1)
	})
}

// TestForwardShutdown: what was not sent when the node stops is rejected, and what comes later, too.
func TestForwardShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := cluster.NewForwarder(cluster.ForwarderOptions{QueueBytes: 1000})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- f.Run(ctx) }()
		var r replies
		submitted := make(chan int, 20)
		go func() {
			for i := range 20 { // the queue has room for some
				f.Submit(cluster.Judged{}, make([]byte, 100), r.done(i))
				submitted <- i
			}
		}()
		synctest.Wait()
		if n := len(submitted); n != 6 {
			t.Errorf("%d commands fit", n)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		list := r.all()
		if len(list) != 20 {
			t.Fatalf("%d answers", len(list))
		}
		for _, a := range list {
			if became(a.err) != "rejected: shutdown" {
				t.Errorf("%d: %s", a.n, became(a.err))
			}
		}
	})
}

// TestForwardCodes: every outcome is the same at the other end of a link.
func TestForwardCodes(t *testing.T) {
	rejected := func(err error) error { return &cluster.OutcomeError{Outcome: cluster.Rejected, Err: err} }
	unknown := func(err error) error { return &cluster.OutcomeError{Outcome: cluster.Unknown, Err: err} }
	for want, errs := range map[string][]error{
		"rejected: not leader": {rejected(cluster.ErrNotLeader), cluster.OutcomeOf(raft.ErrNotLeader), cluster.OutcomeOf(raft.ErrLeadershipTransferInProgress)},
		"rejected: overloaded": {rejected(cluster.ErrOverloaded), rejected(cluster.ErrStalled), cluster.OutcomeOf(raft.ErrEnqueueTimeout)},
		"rejected: shutdown":   {rejected(cluster.ErrShutdown)},
		"rejected: stale":      {rejected(fmt.Errorf("%w: more", cluster.ErrStale))},
		"rejected: malformed":  {rejected(state.ErrMalformed)},
		"rejected: version":    {rejected(state.ErrVersion)},
		"unknown: lost":        {cluster.OutcomeOf(raft.ErrLeadershipLost), cluster.OutcomeOf(raft.ErrRaftShutdown), unknown(cluster.ErrStalled), unknown(cluster.ErrNotLeader), errors.New("no outcome at all")},
	} {
		for _, err := range errs {
			index, got, bad := cluster.OverALink(nil, 7, err)
			if bad != nil || index != 7 || became(got) != want || !strings.Contains(got.Error(), "node n1: ") {
				t.Errorf("%v: %d, %v (%s), %v; want %s", err, index, got, became(got), bad, want)
			}
		}
	}
}

// TestForwardLeaderMoves: the leader of before has half a second to answer what it has; until then nothing goes to the
// new one, so that answers keep their order. What it does not answer is unknown, what it did not get goes to the new one.
func TestForwardLeaderMoves(t *testing.T) {
	for after, want := range map[time.Duration]string{400 * time.Millisecond: "ok", 600 * time.Millisecond: "unknown: link lost"} {
		t.Run(after.String(), func(t *testing.T) {
			inPostal(t, three, func(t *testing.T, p *postal) {
				leader, follower := p.pair()
				part := createTopic(t, p.nodes[leader.id].Group, "orders")
				next := p.followers()[1].id
				_, release := leader.withhold()
				var r replies
				for i := range 4 {
					follower.submit(&r, part, i)
					synctest.Wait()
				}
				for i := 4; i < 10; i++ {
					follower.submit(&r, part, i)
				}
				if err := p.nodes[leader.id].Group.Raft().LeadershipTransferToServer(next, raft.ServerAddress(next)).Error(); err != nil {
					t.Fatal(err)
				}
				if now := p.leader().id; now != next {
					t.Fatalf("%s leads, not %s", now, next)
				}
				follower.follow(next)
				time.Sleep(after)
				synctest.Wait()
				if n := len(r.all()); want == "ok" && n > 0 || want != "ok" && n != 10 {
					t.Errorf("%d answers before the old leader spoke", n)
				}
				release()
				time.Sleep(time.Second)
				for i, a := range r.all() {
					expect := want
					if i >= 4 {
						expect = "ok"
					}
					if a.n != i || became(a.err) != expect {
						t.Errorf("answer %d: command %d: %s, want %s", i, a.n, became(a.err), expect)
					}
				}
				p.settle(p.nodes[next])
				p.nodes[next].holds(t, part, 10)
			})
		})
	}
}

// TestForwardToItself: a node that becomes the leader proposes what it has not sent, and what it proposed and raft refused
// goes to the next leader; in order, all of it once.
func TestForwardToItself(t *testing.T) {
	inPostal(t, three, func(t *testing.T, p *postal) {
		leader, other := p.pair()
		part := createTopic(t, p.nodes[leader.id].Group, "orders")
		var r replies
		for i := range 5 {
			leader.submit(&r, part, i)
		}
		leader.SetLeader(cluster.Leader{})
		synctest.Wait()
		for i := 5; i < 10; i++ {
			leader.submit(&r, part, i)
		}
		leader.follow(leader.id)
		synctest.Wait()
		r.wantInOrder(t, 10)
		if err := p.nodes[leader.id].Group.Raft().LeadershipTransferToServer(raft.ServerID(other.id), raft.ServerAddress(other.id)).Error(); err != nil {
			t.Fatal(err)
		}
		p.leader()
		_, release := leader.withhold()
		for i := 10; i < 15; i++ { // it believes that it leads; raft refuses
			leader.submit(&r, part, i)
		}
		synctest.Wait()
		leader.SetLeader(cluster.Leader{})
		for i := 15; i < 20; i++ {
			leader.submit(&r, part, i)
		}
		synctest.Wait()
		release()
		leader.follow(leader.id) // once more
		time.Sleep(time.Second)
		if n := len(r.all()); n != 10 {
			t.Errorf("%d answers", n)
		}
		leader.follow(other.id)
		time.Sleep(time.Second)
		r.wantInOrder(t, 20)
		p.settle(p.nodes[other.id])
		p.nodes[other.id].holds(t, part, 20)
	})
}
