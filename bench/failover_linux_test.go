package bench_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

var (
	election = flag.Duration("election", 0, "cluster.election_timeout for BenchmarkFailover; 0 = the default")
	hanging  = flag.Int("hanging", 64, "records that each client of BenchmarkFailover keeps without an acknowledgement")
)

// BenchmarkFailover kills the leader of three brokers (SIGKILL) while two clients publish, one that was connected to it and one
// that was connected to a follower; an operation is one kill. Reported is for how long each of them got no acknowledgement.
// The killed node is started again, and has caught up, before the next round. At the end everything that was acknowledged is
// read back: each record once, in order, at the offset that was acknowledged. Run it with -benchtime 20x or more.
func BenchmarkFailover(b *testing.B) {
	s := newTrio(b, 2048)
	var gaps [2][]time.Duration
	leader := s.leader()
	for b.Loop() {
		others := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == leader })
		clients := []*acknowledged{s.publish(leader), s.publish(others[rand.IntN(2)])}
		for _, c := range clients {
			c.await(c.count() + 500)
		}
		kill := time.Now()
		for _, c := range clients {
			c.mark(kill)
		}
		s.nodes[leader].Kill()
		for i, c := range clients {
			gap := c.gap()
			gaps[i] = append(gaps[i], gap)
			c.stop()
		}
		b.Logf("n%d killed: %v and %v without an acknowledgement", leader+1, gaps[0][len(gaps[0])-1].Round(time.Millisecond), gaps[1][len(gaps[1])-1].Round(time.Millisecond))
		for _, c := range clients {
			c.verify()
		}
		s.spawn(leader)
		s.await(leader)
		leader = s.leader()
	}
	b.ReportMetric(0, "ns/op")
	for i, of := range []string{"leader", "follower"} {
		b.ReportMetric(ms(at(gaps[i], 0.5)), "p50-ms-of-"+of)
		b.ReportMetric(ms(at(gaps[i], 0.99)), "p99-ms-of-"+of)
		b.ReportMetric(ms(slices.Max(gaps[i])), "max-ms-of-"+of)
	}
}

// acknowledged is a client that publishes numbered records, and what it was acknowledged.
type acknowledged struct {
	s     *trio
	c     *client.Client
	topic string
	end   chan struct{}
	ended chan struct{}
	err   error // why it ended, if not by stop

	mu      sync.Mutex
	changed *sync.Cond
	n       int           // Guarded by mu. Records that were acknowledged.
	sent    int           // Guarded by mu. Records that were published.
	last    time.Time     // Guarded by mu. The last acknowledgement, or the mark.
	longest time.Duration // Guarded by mu. Without one, since the mark.
}

// publish starts a client at a node, with a topic of its own.
func (s *trio) publish(node int) *acknowledged {
	s.b.Helper()
	s.topics++
	a := &acknowledged{s: s, c: s.dial(s.b, node), topic: fmt.Sprint("bench.failover.", s.topics), end: make(chan struct{}), ended: make(chan struct{})}
	a.changed = sync.NewCond(&a.mu)
	go a.run()
	return a
}

// run keeps records in flight until stop.
func (a *acknowledged) run() {
	defer close(a.ended)
	var inFlight []*client.Future
	for {
		select {
		case <-a.end:
			for len(inFlight) > 0 && a.settle(inFlight[0]) {
				inFlight = inFlight[1:]
			}
			return
		default:
		}
		a.mu.Lock()
		n := a.sent
		a.sent++
		a.mu.Unlock()
		inFlight = append(inFlight, a.c.PublishAsync(context.Background(), a.topic, client.Record{Body: numbered(n)}))
		if len(inFlight) >= *hanging {
			if !a.settle(inFlight[0]) {
				return
			}
			inFlight = inFlight[1:]
		}
	}
}

// settle waits for the next acknowledgement.
func (a *acknowledged) settle(f *client.Future) bool {
	ack, err := f.Wait(context.Background())
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.changed.Broadcast()
	switch {
	case err != nil:
		a.err = fmt.Errorf("record %d: %w", a.n, err)
	case ack.Offset != int64(a.n):
		a.err = fmt.Errorf("record %d was acknowledged at offset %d", a.n, ack.Offset)
	}
	now := time.Now()
	a.longest = max(a.longest, now.Sub(a.last))
	a.last = now
	a.n++
	return a.err == nil
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

// await waits for so many acknowledgements.
func (a *acknowledged) await(n int) {
	a.s.b.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.n < n && a.err == nil {
		a.changed.Wait()
	}
	if a.err != nil {
		a.s.b.Fatal(a.err)
	}
}

// mark begins a measurement.
func (a *acknowledged) mark(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.longest = now, 0
}

// gap is the longest time without an acknowledgement since the mark, once one came for a record that was published after now.
func (a *acknowledged) gap() time.Duration {
	a.s.b.Helper()
	a.mu.Lock()
	sent := a.sent
	a.mu.Unlock()
	a.await(sent + *hanging + 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.longest
}

// stop ends publishing and waits for what is in flight.
func (a *acknowledged) stop() {
	a.s.b.Helper()
	close(a.end)
	<-a.ended
	if err := errors.Join(a.err, a.c.Close(a.s.b.Context())); err != nil {
		a.s.b.Fatal(err)
	}
}

// verify reads back what was acknowledged, from the leader: a follower may be a little behind.
func (a *acknowledged) verify() {
	a.s.b.Helper()
	c := a.s.dial(a.s.b, a.s.leader())
	defer c.Close(a.s.b.Context())
	sub, err := c.Subscribe(a.s.b.Context(), client.SubscribeOptions{Topics: []string{a.topic}, From: client.Earliest(), StopAtEnd: true})
	if err != nil {
		a.s.b.Fatal(err)
	}
	n := 0
	for m, err := range sub.Messages() {
		if err != nil || m.Offset != int64(n) || string(m.Body) != string(numbered(n)) {
			a.s.b.Fatalf("%s: offset %d is read where record %d should be: %v", a.topic, m.Offset, n, err)
		}
		n++
	}
	if n != a.n {
		a.s.b.Fatalf("%s: %d records are read, %d were acknowledged", a.topic, n, a.n)
	}
}

// numbered is the body of a record: its number, and as many bytes as others.
func numbered(n int) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, recordBytes-8), uint64(n))
}
