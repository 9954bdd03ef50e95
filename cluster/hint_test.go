package cluster_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
)

// lines are the connections that nodes of a fleet have dialed.
type lines struct {
	f *fleet

	mu   sync.Mutex
	open map[[2]string][]net.Conn // Guarded by mu. From, to.
	down map[[2]string]bool       // Guarded by mu.
	slow map[[2]string]bool       // Guarded by mu. Nothing gets through, and nobody can tell.
	pass *sync.Cond               // of mu: something may get through again
}

// slowConn is one of them.
type slowConn struct {
	net.Conn
	l    *lines
	line [2]string
}

func (c *slowConn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	for c.l.slow[c.line] {
		c.l.pass.Wait()
	}
	c.l.mu.Unlock()
	return c.Conn.Write(b)
}

// inLines runs a test with three nodes whose connections it can cut.
func inLines(t *testing.T, test func(t *testing.T, f *fleet, l *lines)) {
	inFleet(t, func(t *testing.T, f *fleet) {
		l := &lines{f: f, open: map[[2]string][]net.Conn{}, down: map[[2]string]bool{}, slow: map[[2]string]bool{}}
		l.pass = sync.NewCond(&l.mu)
		for _, id := range f.ids {
			f.start(id, func(p *cluster.Peers) { p.Dial = l.dialer(id) })
		}
		test(t, f, l)
	})
}

func (l *lines) dialer(from string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to, _, _ := strings.Cut(address, ":")
		line := [2]string{from, to}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.down[line] {
			return nil, errors.New("the test has cut this line")
		}
		c, err := l.f.network.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l.open[line] = append(l.open[line], c)
		return &slowConn{c, l, line}, nil
	}
}

// cut closes what one node has dialed to another; if down, it can dial nothing more.
func (l *lines) cut(from, to string, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := [2]string{from, to}
	for _, c := range l.open[line] {
		c.Close()
	}
	l.open[line], l.down[line] = nil, down
}

// hold lets nothing through from one node to another for a while.
func (l *lines) hold(from, to string, d time.Duration) {
	set := func(slow bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.slow[[2]string{from, to}] = slow
		l.pass.Broadcast()
	}
	set(true)
	time.Sleep(d)
	set(false)
}

// followers of a leader.
func (f *fleet) followers(leader *member) (list []*member) {
	for _, id := range f.running() {
		if f.nodes[id] != leader {
			list = append(list, f.nodes[id])
		}
	}
	return list
}

// normal wants the timeouts of every node as they are set up.
func (f *fleet) normal() {
	f.t.Helper()
	for id, m := range f.nodes {
		if c := m.Group.Raft().ReloadableConfig(); c.HeartbeatTimeout != time.Second || c.ElectionTimeout != time.Second {
			f.t.Errorf("%s: timeouts of %v and %v, want a second", id, c.HeartbeatTimeout, c.ElectionTimeout)
		}
	}
}

// TestHintLeaderGone: a leader whose links end is followed by another one sooner than the election timeout takes, in the next
// term: nobody has to ask twice. The timeouts are as before then.
func TestHintLeaderGone(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		p := createTopic(t, n.Group, "orders")
		for at := 0; at < 60; at += 20 {
			n.fill(t, p, at, at+20)
			f.settle()
			old, term, start := n, n.Group.Raft().CurrentTerm(), time.Now()
			n.Group.Links().Suspend(errors.New("the test killed it"))
			n = f.ready(string(f.followers(old)[0].id), string(f.followers(old)[1].id))
			if took := time.Since(start); took > 750*time.Millisecond { // the earliest election without a hint: 800 ms
				t.Errorf("%v without a leader", took)
			}
			if now := n.Group.Raft().CurrentTerm(); now != term+1 {
				t.Errorf("it took from term %d to %d", term, now)
			}
			f.stop(string(old.id))
			f.start(string(old.id))
			f.ready(f.ids...)
			time.Sleep(3 * time.Second)
			f.normal()
		}
	})
}

// TestHintLivingLeader: a leader that lives goes on leading in its term, whatever becomes of its links to one follower: cut and
// dialed again at once, down for a while again and again, or down for good. That follower asks at a bounded rate, and nobody
// listens; its timeouts are as before then.
func TestHintLivingLeader(t *testing.T) {
	inLines(t, func(t *testing.T, f *fleet, l *lines) {
		n := f.ready(f.ids...)
		f.settle()
		term, cut := n.Group.Raft().CurrentTerm(), f.followers(n)[0]
		same := func(after string) {
			t.Helper()
			if now := n.Group.Raft().CurrentTerm(); !n.leads() || now != term {
				t.Fatalf("%s: leads %v, in term %d; it led in term %d", after, n.leads(), now, term)
			}
		}
		for range 100 {
			l.cut(string(n.id), string(cut.id), false)
			time.Sleep(300 * time.Millisecond)
		}
		same("cut and dialed again")
		time.Sleep(10 * time.Second)
		l.cut(string(n.id), string(cut.id), false)
		time.Sleep(300 * time.Millisecond)
		l.hold(string(n.id), string(cut.id), 700*time.Millisecond)
		same("dialed again, and slow")
		if asked := cut.Group.Hints(); asked != 0 {
			t.Errorf("%s asked %d times to be elected, and the leader was there", cut.id, asked)
		}
		for range 40 { // a minute
			l.cut(string(n.id), string(cut.id), true)
			time.Sleep(700 * time.Millisecond)
			l.cut(string(n.id), string(cut.id), false)
			time.Sleep(800 * time.Millisecond)
		}
		same("down again and again")
		if asked := cut.Group.Hints(); asked < 1 || asked > 7 {
			t.Errorf("%s asked %d times to be elected within a minute, want once in 10 s", cut.id, asked)
		}
		l.cut(string(n.id), string(cut.id), true)
		time.Sleep(30 * time.Second)
		same("down for good")
		l.cut(string(n.id), string(cut.id), false)
		f.settle()
		same("up again")
		time.Sleep(3 * time.Second)
		f.normal()
	})
}

// TestHintTurns: of two followers the one with less of the log asks first, with the same log the one with the lower id, so
// that the last to ask is elected at once.
func TestHintTurns(t *testing.T) {
	inLines(t, func(t *testing.T, f *fleet, l *lines) {
		n := f.ready(f.ids...)
		p := createTopic(t, n.Group, "orders")
		f.settle()
		turns := func(first, last *member) {
			t.Helper()
			if a, b := first.Group.Turn(string(n.id)), last.Group.Turn(string(n.id)); a != 0 || b != 1 {
				t.Errorf("turn %d of %s, which has %d entries, and %d of %s, which has %d", a, first.id, first.Group.Raft().LastIndex(), b, last.id, last.Group.Raft().LastIndex())
			}
		}
		low, high := f.followers(n)[0], f.followers(n)[1]
		turns(low, high)
		l.cut(string(n.id), string(high.id), true)
		n.fill(t, p, 0, 20)
		if low.Group.Raft().LastIndex() <= high.Group.Raft().LastIndex() {
			t.Fatal("the test has not kept anything from a follower")
		}
		turns(high, low)
	})
}
