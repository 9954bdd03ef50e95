package client_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
)

// These tests run against three whole nodes, in a bubble.

// crowd is three nodes, and the connections that a client has dialed to them.
type crowd struct {
	*brokertest.Several
	t      *testing.T
	events chan client.Event // of the client
	heard  []client.Event    // what was taken from events

	mu    sync.Mutex
	pass  *sync.Cond            // of mu: held has changed
	down  map[string]bool       // Guarded by mu. Addresses that cannot be dialed.
	held  map[string]bool       // Guarded by mu. Addresses from which nothing comes for now.
	dials map[string]int        // Guarded by mu.
	conns map[string][]net.Conn // Guarded by mu.
}

func inCrowd(t *testing.T, test func(t *testing.T, s *crowd)) {
	synctest.Test(t, func(t *testing.T) {
		s := &crowd{Several: brokertest.StartSeveral(t, "n1", "n2", "n3"), t: t, events: make(chan client.Event, 10_000),
			down: map[string]bool{}, held: map[string]bool{}, dials: map[string]int{}, conns: map[string][]net.Conn{}}
		s.pass = sync.NewCond(&s.mu)
		time.Sleep(3 * time.Second) // the leader notes where clients reach each node
		test(t, s)
	})
}

// follower is a node that does not lead.
func (s *crowd) follower() *brokertest.Node {
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if s.Nodes[id] != s.Leader() {
			return s.Nodes[id]
		}
	}
	return nil
}

// heldConn is a connection that can be held.
type heldConn struct {
	net.Conn
	s       *crowd
	address string
}

func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for c.s.held[c.address] {
		c.s.pass.Wait()
	}
	return n, err
}

// hold lets nothing come from an address, or all of it.
func (s *crowd) hold(address string, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[address] = held
	s.pass.Broadcast()
}

// cut ends the connections to an address.
func (s *crowd) cut(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns[address] {
		c.Close()
	}
	s.conns[address] = nil
}

func (s *crowd) dialed(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials[address]
}

func (s *crowd) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	s.dials[address]++
	down := s.down[address]
	s.mu.Unlock()
	if down {
		return nil, errors.New("the test lets nobody there")
	}
	conn, err := s.follower().DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[address] = append(s.conns[address], conn)
	return &heldConn{conn, s, address}, nil
}

// dial connects a client that begins with one node.
func (s *crowd) dial(first *brokertest.Node, change ...func(*client.Options)) *client.Client {
	s.t.Helper()
	cert := first.PKI.Client("orders")
	o := client.Options{Servers: []string{first.Addr}, ServerName: "localhost", Dialer: s.dialContext, CertPEM: cert.CertPEM, KeyPEM: cert.KeyPEM, CAPEM: first.PKI.RootsPEM(), OnEvent: func(e client.Event) { s.events <- e }}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if n := s.Nodes[id]; n != first {
			o.Servers = append(o.Servers, n.Addr)
		}
	}
	for _, f := range change {
		f(&o)
	}
	return dialNode(s.t, o)
}

// moved waits until publishing has moved to a node.
func (s *crowd) moved(to string) {
	s.t.Helper()
	for {
		select {
		case e := <-s.events:
			s.heard = append(s.heard, e)
			if m, ok := e.(*client.MovedEvent); ok {
				if m.Server != to {
					s.t.Errorf("publishing moved to %s, the leader is at %s", m.Server, to)
				}
				return
			}
		case <-time.After(2 * time.Minute): // the longest wait between two attempts is one
			s.t.Fatal("publishing did not move to the leader within two minutes")
		}
	}
}

// moves counts what events have come of moves so far.
func (s *crowd) moves() (n int) {
	for len(s.events) > 0 {
		e := <-s.events
		s.heard = append(s.heard, e)
		if _, ok := e.(*client.MovedEvent); ok {
			n++
		}
	}
	return n
}

// stayed wants the client's own connection to be the first one still.
func (s *crowd) stayed(c *client.Client) {
	s.t.Helper()
	if _, err := c.WhoAmI(s.t.Context()); err != nil { // its answer comes behind all others
		s.t.Error(err)
	}
	s.moves()
	for _, e := range s.heard {
		if lost, ok := e.(*client.DisconnectedEvent); ok {
			s.t.Errorf("the client's own connection was lost: %v", lost)
		}
	}
}

// publish publishes records [from, to), one every 10 ms, and wants each acknowledged at its own offset.
func (s *crowd) publish(c *client.Client, from, to int) {
	s.t.Helper()
	var futures []*client.Future
	for i := from; i < to; i++ {
		futures = append(futures, c.PublishAsync(s.t.Context(), "orders", client.Record{Body: body(i)}))
		time.Sleep(10 * time.Millisecond)
	}
	for i, f := range futures {
		if ack, err := f.Wait(s.t.Context()); err != nil || ack.Offset != int64(from+i) {
			s.t.Fatalf("record %d: %+v, %v", from+i, ack, err)
		}
	}
}

// holds wants exactly records 0 to n-1, in order.
func (s *crowd) holds(c *client.Client, n int) {
	s.t.Helper()
	sub := subscribe(s.t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
	i := 0
	for m, err := range sub.Messages() {
		if err != nil || m.Offset != int64(i) || string(m.Body) != string(body(i)) {
			s.t.Fatalf("offset %d where record %d should be: %v", m.Offset, i, err)
		}
		i++
	}
	if i != n {
		s.t.Errorf("%d records, want %d", i, n)
	}
}

// TestMoveToLeader: a client that publishes through a follower moves publishing to the leader, and after it when another node
// leads, its own among them; each time once. The connection for the rest stays. Nothing is lost, doubled or out of order.
func TestMoveToLeader(t *testing.T) {
	inCrowd(t, func(t *testing.T, s *crowd) {
		home := s.follower()
		c := s.dial(home)
		s.publish(c, 0, 1)
		s.moved(s.Leader().Addr)
		const records, turns = 500, 5
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.publish(c, 1, records)
		}()
		elsewhere := 0
		for range turns {
			time.Sleep(time.Second)
			s.Leader().Group.HandOver(t.Context())
			if s.Leader() != home {
				elsewhere++
			}
		}
		<-done
		if moves := s.moves(); moves != elsewhere {
			t.Errorf("publishing moved %d times, another node than the client's led %d times", moves, elsewhere)
		}
		s.stayed(c)
		s.holds(c, records)
	})
}

// TestMoveUnreachable: a client stays on the follower when it cannot reach the leader, tries again at longer and longer intervals,
// and moves once it can. One that does not publish, and one that is told to stay, do not try.
func TestMoveUnreachable(t *testing.T) {
	inCrowd(t, func(t *testing.T, s *crowd) {
		leader := s.Leader().Addr
		s.down[leader] = true
		c := s.dial(s.follower())
		stays := s.dial(s.follower(), func(o *client.Options) { o.StayOnServer = true })
		if _, err := stays.Publish(t.Context(), "others", client.Record{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := s.dialed(leader); got != 0 {
			t.Errorf("%d attempts at the leader", got)
		}
		s.publish(c, 0, 10)
		time.Sleep(time.Minute)
		s.publish(c, 10, 20)
		if got := s.dialed(leader); got < 4 || got > 12 {
			t.Errorf("%d attempts at a leader that cannot be reached within a minute", got)
		}
		s.mu.Lock()
		s.down[leader] = false
		s.mu.Unlock()
		s.moved(leader)
		s.publish(c, 20, 30)
		s.holds(c, 30)
	})
}

// TestMoveCut: connections to the leader end again and again. Publishing goes on through the client's own node; it comes back to the leader
// at a bounded rate, and nothing is lost, doubled or out of order.
func TestMoveCut(t *testing.T) {
	inCrowd(t, func(t *testing.T, s *crowd) {
		leader := s.Leader().Addr
		c := s.dial(s.follower())
		s.publish(c, 0, 1)
		s.moved(leader)
		const records = 400
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.publish(c, 1, records)
		}()
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			s.cut(leader)
		}
		<-done
		if got := s.dialed(leader); got < 3 || got > 8 {
			t.Errorf("%d connections to the leader in 4 s", got)
		}
		s.holds(c, records)
	})
}

// TestMoveUnanswered: what has no answer when publishing moves is sent again to the leader, which has it already. The
// answers that come late over the old connection are no harm.
func TestMoveUnanswered(t *testing.T) {
	inCrowd(t, func(t *testing.T, s *crowd) {
		home := s.follower()
		c := s.dial(home)
		s.publish(c, 0, 1)
		s.hold(home.Addr, true)
		s.publish(c, 1, 20) // acknowledged by the leader only
		s.moved(s.Leader().Addr)
		s.hold(home.Addr, false)
		s.publish(c, 20, 40)
		s.stayed(c)
		s.holds(c, 40)
	})
}
