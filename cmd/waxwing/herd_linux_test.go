package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

const (
	herdTopic      = "herd"
	herdIdentities = 4         // an identity may have 1,000 connections
	herdHandshakes = 32        // under way at once, at each node; who comes meanwhile is turned away and tries again
	herdMemory     = 256 << 20 // of a broker
)

// TestO02Herd connects very many clients, all to the leader, and kills it. All at once they come back to the other
// two nodes, with their sessions resumed, and miss nothing, though only a few handshakes may be under way; memory stays within bounds,
// and who was connected to the others goes on publishing. In the nightly lane all are back within 30 s.
func TestO02Herd(t *testing.T) {
	lane.Need(t, 2, "O-02")
	count := lane.Pick(0, 300, 2000)
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name, fmt.Sprint("WAXWING_LIMITS_HANDSHAKES_AT_ONCE=", herdHandshakes))
	}
	s.await(threeNames...)
	s.share(s.keepsSession("visitor"))
	leader := s.leader()
	lost := slices.Index(threeNames, leader)

	j := &journal{t: t, c: s.dialFrom("orders", lost+1), acked: make(chan int64, 1024), stop: make(chan struct{})}
	published := make(chan int64, 1)
	go func() { published <- j.publish() }()
	<-j.acked

	h := newHerd(s, count, lost)
	t.Logf("%d clients at %s: connected within %v", count, leader, h.connect(t, leader))
	herald := s.dialFrom("herald", lost+1)
	h.hears(t, herald, "before")
	var peak atomic.Int64
	weigh := func() {
		for name, p := range s.nodes {
			if name != leader {
				peak.Store(max(peak.Load(), anonymousMemory(p.PID())))
			}
		}
	}
	weigh()
	start := time.Now()
	s.kill(leader)
	resumed := h.back(t, leader)
	took := time.Since(start)
	weigh()
	t.Logf("all are back after %v, %d of %d with their sessions resumed, %d MiB of memory at most", took, resumed, count, peak.Load()>>20)
	if resumed < count*9/10 { // who has changed its mind in the middle of a handshake begins anew
		t.Errorf("only %d of %d sessions were resumed", resumed, count)
	}
	if lane.Current() >= 3 && took > 30*time.Second {
		t.Errorf("all are back after %v", took)
	}
	h.hears(t, herald, "after")
	weigh()
	if peak.Load() > herdMemory {
		t.Errorf("a broker has %d bytes of memory, at most %d are expected", peak.Load(), herdMemory)
	}

	for len(j.acked) > 0 { // what was acknowledged until now
		<-j.acked
	}
	<-j.acked
	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	j.verify(s.site, <-published)
}

// herd is many clients, each with a subscription.
type herd struct {
	s       *threeNodes
	options []client.Options
	clients []*client.Client
	subs    []*client.Subscription
}

// newHerd makes clients that prefer one node.
func newHerd(s *threeNodes, count, first int) *herd {
	h := &herd{s: s, clients: make([]*client.Client, count), subs: make([]*client.Subscription, count)}
	for i := range herdIdentities {
		s.issue(ca.Request{Name: fmt.Sprint("herd-", i)})
	}
	for i := range count {
		name := fmt.Sprint("herd-", i%herdIdentities)
		o := client.Options{CertFile: s.path(name + ".crt"), KeyFile: s.path(name + ".key"), CAFile: s.path("roots.crt"), ServerName: threeShared, RequestTimeout: -1, DialTimeout: time.Minute}
		for n := range threeNames { // half of the herd goes on with each of the others
			o.Servers = append(o.Servers, s.client((first+n*(1+i%2))%len(threeNames)))
		}
		h.options = append(h.options, o)
	}
	return h
}

// each does something with all at once.
func (h *herd) each(t *testing.T, do func(ctx context.Context, i int) error) {
	t.Helper()
	var work sync.WaitGroup
	for i := range h.options {
		work.Go(func() {
			if err := do(t.Context(), i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// connect connects all to one node, with a subscription each.
func (h *herd) connect(t *testing.T, node string) time.Duration {
	t.Helper()
	admin := h.s.dial("admin")
	if _, err := admin.Topics().Create(t.Context(), herdTopic, client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	door := make(chan struct{}, herdHandshakes/2) // nobody is turned away: who is goes to the next node
	h.each(t, func(ctx context.Context, i int) (err error) {
		door <- struct{}{}
		defer func() { <-door }()
		if h.clients[i], err = client.Dial(ctx, h.options[i]); err != nil {
			return err
		}
		if at := h.clients[i].Welcome().Node; at != node {
			return fmt.Errorf("it is at %s", at)
		}
		h.subs[i], err = h.clients[i].Subscribe(ctx, client.SubscribeOptions{Topics: []string{herdTopic}, OnEvent: func(client.Event) {}})
		return err
	})
	took := time.Since(start)
	h.s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, c := range h.clients {
			c.Close(ctx)
		}
	})
	return took
}

// hears publishes a record that each of the herd must get, as its next one.
func (h *herd) hears(t *testing.T, herald *client.Client, word string) {
	t.Helper()
	if _, err := herald.Publish(t.Context(), herdTopic, client.Record{Body: []byte(word)}); err != nil {
		t.Fatal(err)
	}
	h.each(t, func(ctx context.Context, i int) error {
		m, err := h.subs[i].Next(ctx)
		if err == nil && string(m.Body) != word {
			err = fmt.Errorf("it hears %q, not %q", m.Body, word)
		}
		return err
	})
}

// back waits until all are connected to other nodes than one, and says how many have resumed their sessions there.
func (h *herd) back(t *testing.T, gone string) int {
	t.Helper()
	var resumed atomic.Int64
	h.each(t, func(ctx context.Context, i int) error {
		for {
			if _, err := h.clients[i].WhoAmI(ctx); err != nil {
				return err
			}
			if w := h.clients[i].Welcome(); w.Node != gone {
				if w.Resumed {
					resumed.Add(1)
				}
				return nil
			}
		}
	})
	return int(resumed.Load())
}
