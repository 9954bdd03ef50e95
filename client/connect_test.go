package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

func TestDialRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.refuse = &protocol.Refused{Code: protocol.CodeRevoked, Text: "revoked by root", Identity: "spiffe://test/client/orders"}
		_, err := client.Dial(t.Context(), w.options)
		refused, ok := errors.AsType[*client.RefusedError](err)
		if !ok || refused.Code != protocol.CodeRevoked || refused.Identity != "spiffe://test/client/orders" || refused.Server != fakeAddr {
			t.Fatalf("got %v", err)
		}
		for _, want := range []string{fakeAddr, "spiffe://test/client/orders", "revoked by root"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %q", want, err)
			}
		}
	})
}

func TestDialNoBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.options.Servers = []string{"nobody.test:7420"}
		_, err := client.Dial(t.Context(), w.options)
		if e, ok := errors.AsType[*client.ConnectError](err); !ok || e.Server != "nobody.test:7420" {
			t.Fatalf("got %v", err)
		}
	})
}

// A server that accepts and says nothing costs DialTimeout, then the next one is tried.
func TestDialNextServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		deaf, err := w.network.Listen("deaf.test:7420")
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.Close()
		go func() {
			for {
				conn, err := deaf.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
			}
		}()
		start := time.Now()
		c := w.dial(func(o *client.Options) { o.Servers = []string{"deaf.test", fakeAddr} })
		if took := time.Since(start); took != client.DefaultDialTimeout {
			t.Errorf("took %s", took)
		}
		if c.Welcome().Node != "fake" {
			t.Errorf("welcome %+v", c.Welcome())
		}
		w.options.Servers = []string{"deaf.test:7420"}
		if _, err := client.Dial(t.Context(), w.options); !errors.Is(err, client.ErrTimeout) {
			t.Errorf("only a deaf server: %v", err)
		}
	})
}

func TestDialBadOptions(t *testing.T) {
	for name, opts := range map[string]client.Options{
		"no server":    {},
		"empty server": {Servers: []string{""}},
		"long name":    {Servers: []string{"a"}, Name: strings.Repeat("x", 129)},
		"negative":     {Servers: []string{"a"}, WindowBytes: -1},
	} {
		if _, err := client.Dial(t.Context(), opts); err == nil || !strings.HasPrefix(err.Error(), "client options: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A reconnect resumes the TLS session and is told as an event.
func TestReconnectResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		events := make(chan client.Event, 16)
		c := w.dial(func(o *client.Options) { o.OnEvent = func(e client.Event) { events <- e } })
		synctest.Wait()
		if e := (<-events).(*client.ConnectedEvent); e.Resumed {
			t.Error("the first connection is resumed")
		}
		w.broker.cut()
		if e, ok := (<-events).(*client.DisconnectedEvent); !ok || e.Server != fakeAddr {
			t.Errorf("got %v", e)
		}
		if e := (<-events).(*client.ConnectedEvent); !e.Resumed || e.Node != "fake" {
			t.Errorf("got %v", e)
		}
		if state, up := c.ConnectionState(); !up || !state.DidResume {
			t.Errorf("state: up %t, resumed %t", up, state.DidResume)
		}
	})
}

// A broker that welcomes and hangs up is not called without pause.
func TestReconnectBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wrapConns(func(c net.Conn) net.Conn { return &fuse{Conn: c, left: 6000} })
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			if _, hello := m.(*protocol.Hello); !hello {
				return false
			}
			w.broker.hello(fc, id)
			fc.send(0, &protocol.Event{Type: protocol.EventClosing, Text: string(make([]byte, 6000))}) // blows the fuse
			return true
		}
		w.dial()
		<-time.After(time.Minute)
		w.broker.mu.Lock()
		defer w.broker.mu.Unlock()
		if n := w.broker.hellos; n < 10 || n > 60 {
			t.Errorf("%d connections in a minute", n)
		}
	})
}

// A broker that falls silent is noticed, and the connection made anew.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pings := 0
		w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
			_, ping := m.(*protocol.Ping)
			if ping {
				pings++
			}
			return ping && pings > 10
		}
		disconnected := make(chan *client.DisconnectedEvent, 16)
		start := time.Now()
		w.dial(func(o *client.Options) {
			o.OnEvent = func(e client.Event) {
				if d, ok := e.(*client.DisconnectedEvent); ok {
					disconnected <- d
				}
			}
		})
		e := <-disconnected
		if took := time.Since(start); took < 10*client.DefaultKeepAlive || took > 15*client.DefaultKeepAlive {
			t.Errorf("given up after %s", took)
		}
		if !strings.Contains(e.Err.Error(), "silent") {
			t.Errorf("got %v", e)
		}
	})
}

// A refusal for good ends what waits and what comes, until a connect works again.
func TestRefusedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 1)
		sub := subscribe(t, c, client.SubscribeOptions{})
		w.broker.mu.Lock()
		w.broker.refuse = &protocol.Refused{Code: protocol.CodeRevoked, Text: "gone"}
		w.broker.mu.Unlock()
		w.broker.cut()
		_, err := sub.Next(t.Context())
		if _, ok := errors.AsType[*client.RefusedError](err); !ok {
			t.Errorf("subscription: %v", err)
		}
		_, err = c.Publish(t.Context(), "orders", client.Record{})
		if _, ok := errors.AsType[*client.RefusedError](err); !ok {
			t.Errorf("publish: %v", err)
		}
		_, err = c.WhoAmI(t.Context())
		if _, ok := errors.AsType[*client.RefusedError](err); !ok {
			t.Errorf("whoami: %v", err)
		}
		w.broker.mu.Lock()
		w.broker.refuse = nil
		w.broker.mu.Unlock()
		<-time.After(10 * time.Second)
		ack, err := c.Publish(t.Context(), "orders", client.Record{Body: body(1)})
		if err != nil || ack.Offset != 1 || ack.Duplicate {
			t.Errorf("publish after the refusal: %+v, %v", ack, err)
		}
		w.wantRecords("orders", 2)
	})
}

// A read whose answer is lost is asked again; a change that cannot be repeated has an
// unknown outcome.
func TestRequestThroughCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		cuts := 2
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			if _, hello := m.(*protocol.Hello); hello || cuts == 0 {
				return false
			}
			cuts--
			fc.conn.Close()
			return true
		}
		if who, err := c.WhoAmI(t.Context()); err != nil || who.Node != "fake" {
			t.Errorf("whoami: %+v, %v", who, err)
		}
		cuts = 1
		_, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{})
		if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok {
			t.Errorf("create: %v", err)
		}
	})
}

func TestRequestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		w.broker.onFrame = func(*fakeConn, uint64, protocol.Message) bool { return true }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.WhoAmI(ctx); !errors.Is(err, client.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("own deadline: %v", err)
		}
		start := time.Now()
		if _, err := c.WhoAmI(t.Context()); !errors.Is(err, client.ErrTimeout) {
			t.Errorf("RequestTimeout: %v", err)
		}
		if took := time.Since(start); took != client.DefaultRequestTimeout {
			t.Errorf("took %s", took)
		}
	})
}

// Close publishes what is buffered and leaves nothing behind.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		var last *client.Future
		for i := range 1000 {
			last = c.PublishAsync(t.Context(), "orders", client.Record{Body: body(i)})
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ack, err := last.Wait(t.Context()); err != nil || ack.Offset != 999 {
			t.Errorf("last record: %+v, %v", ack, err)
		}
		w.wantRecords("orders", 1000)
		if _, err := c.Publish(t.Context(), "orders", client.Record{}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("publish after close: %v", err)
		}
		if _, err := c.Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{"orders"}}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("subscribe after close: %v", err)
		}
		if _, err := c.WhoAmI(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("whoami after close: %v", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

// Close does not wait for ever: what is unanswered then has an unknown outcome.
func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 1)
		w.broker.onFrame = func(_ *fakeConn, _ uint64, m protocol.Message) bool {
			_, ok := m.(*protocol.Publish)
			return ok
		}
		f := c.PublishAsync(t.Context(), "orders", client.Record{Body: body(1)})
		sub := subscribe(t, c, client.SubscribeOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, client.ErrTimeout) {
			t.Errorf("close: %v", err)
		}
		_, err := f.Wait(t.Context())
		if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok || !errors.Is(err, client.ErrClosed) {
			t.Errorf("future: %v", err)
		}
		if _, err := sub.Next(t.Context()); err != client.ErrClosed {
			t.Errorf("subscription: %v", err)
		}
	})
}

// Close lets go of a publisher that waits for room, and of a client whose broker is gone.
func TestCloseWithoutBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial(func(o *client.Options) { o.WindowBytes = 1000 })
		publishMany(t, c, 1)
		w.broker.listener.Close()
		w.broker.cut()
		synctest.Wait()
		r := client.Record{Body: make([]byte, 900)}
		waits := c.PublishAsync(t.Context(), "orders", r)
		blocked := make(chan error, 1)
		go func() {
			_, err := c.PublishAsync(t.Context(), "orders", r).Wait(t.Context())
			blocked <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, client.ErrTimeout) {
			t.Errorf("close: %v", err)
		}
		if err := <-blocked; !errors.Is(err, client.ErrClosed) {
			t.Errorf("the one that waited for room: %v", err)
		}
		_, err := waits.Wait(t.Context())
		if _, unknown := errors.AsType[*client.UnknownOutcomeError](err); unknown || !errors.Is(err, client.ErrClosed) {
			t.Errorf("a record that was never sent: %v", err)
		}
	})
}

// Every request of a client may come from another goroutine.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 4)
		c := w.dial()
		var ok atomic.Int64
		done := make(chan struct{})
		for g := range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				for range 50 {
					if _, err := c.Publish(t.Context(), "orders", client.Record{Key: []byte{byte(g)}}); err == nil {
						ok.Add(1)
					}
				}
			}()
		}
		for range 8 {
			<-done
		}
		if ok.Load() != 400 {
			t.Errorf("%d of 400 acknowledged", ok.Load())
		}
	})
}
