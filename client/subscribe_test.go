package client_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// readAll reads until the end and returns the bodies.
func readAll(t *testing.T, sub *client.Subscription) []string {
	t.Helper()
	var bodies []string
	for m, err := range sub.Messages() {
		if err != nil {
			t.Fatalf("after %d messages: %v", len(bodies), err)
		}
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

func wantBodies(t *testing.T, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d messages, want %d", len(got), to-from)
	}
	for i, b := range got {
		if b != string(body(from+i)) {
			t.Fatalf("message %d is %q", i, b)
		}
	}
}

func subscribe(t *testing.T, c *client.Client, opts client.SubscribeOptions) *client.Subscription {
	t.Helper()
	if opts.Topics == nil {
		opts.Topics = []string{"orders"}
	}
	sub, err := c.Subscribe(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	return sub
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial(smallBatches)
		publishMany(t, c, 500)
		sub := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
		wantBodies(t, readAll(t, sub), 0, 500)
		if _, err := sub.Next(t.Context()); err != io.EOF {
			t.Errorf("behind the end: %v, want io.EOF", err)
		}
	})
}

func TestSubscribeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		headers := []client.Header{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}
		ack, err := c.Publish(t.Context(), "orders", client.Record{Key: []byte("k"), Headers: headers, Body: []byte("x"), TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		sub := subscribe(t, c, client.SubscribeOptions{From: client.AtOffset(0)})
		m, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic != "orders" || m.Offset != 0 || !m.Time.Equal(ack.Time) || string(m.Key) != "k" || string(m.Body) != "x" ||
			m.Publisher != "spiffe://test/client/orders" || m.PolicyVersion != 7 || m.Incarnation != 1 {
			t.Errorf("message %+v", m)
		}
		if v, ok := m.Header("b"); !ok || v != "2" {
			t.Errorf("header b is %q, %t", v, ok)
		}
		if _, ok := m.Header("c"); ok {
			t.Error("header c is there")
		}
	})
}

// Deliveries go on at the next record when the connection breaks at random points.
func TestSubscribeThroughCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial(smallBatches)
		const n = 20_000
		publishMany(t, c, n)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		w.wrapConns(func(c net.Conn) net.Conn { return &fuse{Conn: c, left: 8_000 + rnd.IntN(100_000)} })
		reader := w.dial()
		sub := subscribe(t, reader, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true, WindowBytes: 32 << 10})
		wantBodies(t, readAll(t, sub), 0, n)
		t.Logf("%d connections", w.broker.hellos)
		if w.broker.hellos < 5 {
			t.Error("the test cut nothing")
		}
	})
}

// A start inside a batch skips what is before it, and the end of StopAtEnd is the end
// at the time of Subscribe.
func TestSubscribeInsideBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 100)
		sub := subscribe(t, c, client.SubscribeOptions{From: client.AtOffset(42), StopAtEnd: true})
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: []byte("later")}); err != nil {
			t.Fatal(err)
		}
		wantBodies(t, readAll(t, sub), 42, 100)
	})
}

// A partition that has reached its end delivers nothing newer while others are read.
func TestSubscribeStopsPerPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 2)
		c := w.dial()
		put := func(partition uint32, text string) {
			if _, err := c.Publish(t.Context(), "orders", client.Record{Body: []byte(text)}, client.ToPartition(partition)); err != nil {
				t.Fatal(err)
			}
		}
		put(0, "first")
		put(1, "second")
		// The window lets only the first record through before the program reads.
		sub := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true, WindowRecords: 1})
		put(0, "later")
		got := readAll(t, sub)
		if len(got) != 2 || got[0] != "first" || got[1] != "second" {
			t.Errorf("got %q", got)
		}
	})
}

func TestSubscribeEmptyStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 3)
		sub := subscribe(t, w.dial(), client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
		wantBodies(t, readAll(t, sub), 0, 0)
	})
}

// A reader that does not read gets no more than its window.
func TestSubscribeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial(smallBatches)
		const n = 5_000
		publishMany(t, c, n)
		delivered := 0
		w.wrapConns(func(c net.Conn) net.Conn { return &meter{Conn: c, read: &delivered} })
		sub := subscribe(t, w.dial(), client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true, WindowBytes: 10_000})
		synctest.Wait()
		if delivered > 20_000 {
			t.Errorf("%d bytes came, the window is 10,000", delivered)
		}
		wantBodies(t, readAll(t, sub), 0, n)
	})
}

// meter counts what is read; only for connections whose reader the test waits for.
type meter struct {
	net.Conn
	read *int
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	*m.read += n
	return n, err
}

func TestSubscribeExpiredRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		for i := range 4 {
			r := client.Record{Body: body(i)}
			if i != 1 {
				r.TTL = time.Second
			}
			c.PublishAsync(t.Context(), "orders", r)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
		wantBodies(t, readAll(t, all), 0, 4)
		<-time.After(time.Second)
		some := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
		wantBodies(t, readAll(t, some), 1, 2)
	})
}

// Missing records are never silent: without OnEvent they are errors that reading can
// go on behind, with OnEvent they come in order with the messages.
func TestSubscribeGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		sub := subscribe(t, c, client.SubscribeOptions{})
		w.broker.event(&protocol.Event{Type: protocol.EventGap, Sub: 1, Topic: "orders", Value: 10})
		_, err := sub.Next(t.Context())
		gap, ok := errors.AsType[*client.GapEvent](err)
		if !ok || gap.From != 0 || gap.To != 10 || gap.Topic != "orders" {
			t.Fatalf("got %v", err)
		}
		var events []client.Event
		other := subscribe(t, c, client.SubscribeOptions{OnEvent: func(e client.Event) { events = append(events, e) }})
		w.broker.event(&protocol.Event{Type: protocol.EventGap, Sub: 2, Topic: "orders", Value: 10})
		w.broker.event(&protocol.Event{Type: protocol.EventSubClosed, Sub: 2, Code: protocol.CodeDenied, Text: "policy version 8"})
		_, err = other.Next(t.Context())
		if !errors.Is(err, client.ErrDenied) {
			t.Errorf("got %v", err)
		}
		if len(events) != 1 {
			t.Errorf("events %v", events)
		}
	})
}

// What leaves a subscription counts as read, so that StopAtEnd still ends.
func TestSubscribeStopAtEndWithoutTheRest(t *testing.T) {
	for _, e := range []protocol.EventType{protocol.EventRecreated, protocol.EventDenied} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.broker.create("orders", 1)
			w.broker.create("orders2", 1)
			c := w.dial()
			publishMany(t, c, 10)
			w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
				s, ok := m.(*protocol.Subscribe)
				if ok { // promise records of orders2 that never come
					c.send(id, &protocol.Subscribed{Assignments: []protocol.Assignment{{Topic: "orders2", Incarnation: 2, End: 5}}})
					c.send(0, &protocol.Event{Type: e, Sub: s.Sub, Topic: "orders2"})
				}
				return ok
			}
			sub := subscribe(t, c, client.SubscribeOptions{Topics: []string{"orders2"}, From: client.Earliest(), StopAtEnd: true})
			_, err := sub.Next(t.Context())
			if _, ok := err.(client.Event); !ok {
				t.Fatalf("got %v, want an event", err)
			}
			if _, err = sub.Next(t.Context()); err != io.EOF {
				t.Fatalf("got %v, want io.EOF", err)
			}
		})
	}
}

func TestSubscribeCreatesMissingTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		_, err := c.Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{"orders"}})
		if !errors.Is(err, client.ErrNotFound) {
			t.Fatalf("without auto_create: %v", err)
		}
		w.broker.autoCreate = true
		sub := subscribe(t, c, client.SubscribeOptions{})
		publishMany(t, c, 1)
		if m, err := sub.Next(t.Context()); err != nil || m.Offset != 0 {
			t.Fatalf("got %+v, %v", m, err)
		}
	})
}

// The context of Subscribe ends the subscription, the one of Next only the wait.
func TestSubscribeContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		whole, cancel := context.WithCancel(t.Context())
		sub, err := c.Subscribe(whole, client.SubscribeOptions{Topics: []string{"orders"}})
		if err != nil {
			t.Fatal(err)
		}
		once, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := sub.Next(once); !errors.Is(err, client.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next: %v", err)
		}
		publishMany(t, c, 1)
		if _, err := sub.Next(t.Context()); err != nil {
			t.Errorf("Next after a timeout: %v", err)
		}
		cancel()
		for _, err := range sub.Messages() {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Messages: %v", err)
			}
		}
	})
}

func TestSubscribeFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 10)
		opts := client.SubscribeOptions{Topics: []string{"orders"}, From: client.Earliest(), StopAtEnd: true}
		n := 0
		if err := c.SubscribeFunc(t.Context(), opts, func(*client.Message) error { n++; return nil }); err != nil || n != 10 {
			t.Errorf("%d messages, %v", n, err)
		}
		enough := errors.New("enough")
		if err := c.SubscribeFunc(t.Context(), opts, func(*client.Message) error { return enough }); err != enough {
			t.Errorf("got %v", err)
		}
	})
}

func TestSubscribeBadOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWorld(t).dial()
		for _, opts := range []client.SubscribeOptions{{}, {Topics: []string{"a b"}}, {Topics: []string{"a"}, WindowBytes: -1}} {
			if _, err := c.Subscribe(t.Context(), opts); err == nil || !strings.HasPrefix(err.Error(), "subscribe") {
				t.Errorf("%+v: %v", opts, err)
			}
		}
	})
}
