package broker_test

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// halfOpen opens connections that never finish a handshake, a thousand a second, so many at a time, until stop: half of them
// say nothing, the others begin a hello. It returns once so many were opened.
func halfOpen(address string, many int) (stop func()) {
	var ended atomic.Bool
	var wg sync.WaitGroup
	var opened atomic.Int64
	reached := make(chan struct{})
	for i := range 100 {
		wg.Go(func() {
			var open []net.Conn
			pace := time.NewTicker(100 * time.Millisecond)
			defer pace.Stop()
			for ; !ended.Load(); <-pace.C {
				c, err := net.Dial("tcp", address)
				if err != nil {
					continue
				}
				if opened.Add(1) == int64(many) {
					close(reached)
				}
				if i%2 == 0 {
					io.WriteString(c, "\x16\x03\x01\x02\x00\x01\x00")
				}
				if open = append(open, c); len(open) > many/100 {
					open[0].Close()
					open = open[1:]
				}
			}
			for _, c := range open {
				c.Close()
			}
		})
	}
	<-reached
	return func() {
		ended.Store(true)
		wg.Wait()
	}
}

// roundTrips asks so often and returns how long the 99th of a hundred took.
func roundTrips(r *brokertest.Raw, many int) time.Duration {
	var took []time.Duration
	for range many {
		start := time.Now()
		if m := r.Ask(&protocol.Ping{}); m.Kind() != protocol.KindPong {
			return -1
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestO01HalfOpen keeps 5,000 connections half open, and new ones coming: who is connected is served as before, and when they
// are gone others get in. BenchmarkO01HalfOpen says what it costs the connected.
func TestO01HalfOpen(t *testing.T) {
	lane.Need(t, 2, "O-01")
	n := brokertest.Start(t, brokertest.Options{})
	r := n.Dial(t, "good")
	before := heap()
	stop := halfOpen(n.Addr, 5000)
	if roundTrips(r, 2000) < 0 {
		t.Error("a connected client was not served")
	}
	if m := r.Publish("t", 0, "x"); m.Kind() != protocol.KindPublished {
		t.Errorf("%#v", m)
	}
	if grown := int64(heap()) - int64(before); grown > 64<<20 { // 10,000 descriptors of the test itself included
		t.Errorf("the process grew by %d MiB", grown>>20)
	}
	stop()
	for range 100 {
		if c, err := tls.Dial("tcp", n.Addr, n.PKI.ClientConfig(n.PKI.Client("late"), identity.ALPNClient)); err == nil {
			c.Close()
			return
		}
	}
	t.Error("nobody gets in after it")
}

// BenchmarkO01HalfOpen compares the 99th percentile of a connected client's requests with and without them. The floor: twice.
func BenchmarkO01HalfOpen(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	r := n.Dial(b, "good")
	for b.Loop() {
		quiet := roundTrips(r, 5000)
		stop := halfOpen(n.Addr, 5000)
		loud := roundTrips(r, 5000)
		stop()
		b.ReportMetric(float64(quiet.Microseconds()), "quiet-p99-us")
		b.ReportMetric(float64(loud.Microseconds()), "loud-p99-us")
	}
}

// TestO03SlowLine sends a subscriber more than it takes: after 30 s without a piece it is cut, the log says so, and what it
// finds when it comes back is all there; one behind a slow line, that takes a little all the time, is not cut.
func TestO03SlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(*broker.Limits) {})
		publisher := dialRaw(t, n, network, "publisher")
		m := protocol.Publish{Topic: "t", Producer: [16]byte{1}, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: make([]byte, 900<<10)})}
		for range 4 {
			publisher.Write(m.AppendFrame(nil, 1))
			if a := publisher.frame(); a.Kind() != protocol.KindPublished {
				t.Fatalf("%#v", a)
			}
			m.Sequence++
		}
		subscribe := (&protocol.Subscribe{Sub: 1, Patterns: []string{"t"}, Start: protocol.StartEarliest, CreditBytes: 1 << 40, CreditRecords: 1 << 40}).AppendFrame(nil, 1)
		stopped, slow := dialRaw(t, n, network, "stopped"), dialRaw(t, n, network, "slow")
		stopped.Write(subscribe)
		slow.Write(subscribe)
		done := make(chan struct{})
		go func() { // 16 KiB every 5 s: a record takes minutes
			buf := make([]byte, 16<<10)
			for {
				if _, err := io.ReadFull(slow.plain, buf); err != nil {
					return
				}
				select {
				case <-time.After(5 * time.Second):
				case <-done:
					return
				}
			}
		}()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if _, err := stopped.plain.Write([]byte{0}); err == nil {
			t.Error("a client that takes nothing is connected after 31 s")
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if _, err := slow.Write((&protocol.Ping{}).AppendFrame(nil, 9)); err != nil {
			t.Errorf("a slow client was cut: %v", err)
		}
		if cut := counted(t, n, "waxwing_limit_reached_total", "write_timeout"); cut != 1 {
			t.Errorf("%v clients counted as cut, want 1", cut)
		}
		back := dialRaw(t, n, network, "stopped")
		back.Write(subscribe)
		back.frame()
		if d, ok := back.frame().(*protocol.Deliver); !ok || d.Next < 1 {
			t.Errorf("%#v", d)
		}
		for _, c := range []*rawTLS{publisher, stopped, slow, back} {
			c.plain.Close()
		}
		close(done)
	})
}

// TestU03LaterClient speaks as a client of a later revision would: more fields at the end of frames, features and versions that
// this broker does not know. It is served.
func TestU03LaterClient(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	longer := func(m protocol.Message, id uint64) []byte {
		frame := m.AppendFrame(nil, id)
		if frame[4]&0xf0 != 0x90 || frame[4] > 0x9d {
			t.Fatalf("%x", frame[:6])
		}
		frame[4] += 2
		frame = append(frame, 0xa3, 'n', 'e', 'w', 0x91, 0xc3)
		frame[2], frame[3] = byte((len(frame)-4)>>8), byte(len(frame)-4)
		return frame
	}
	r := n.Connect(t, n.PKI.Client("c"))
	r.Write(longer(&protocol.Hello{Versions: []uint64{2, protocol.Version}, Client: "later", Features: []string{"compression", "\u00fc"}}, 1))
	w, ok := r.Receive().(*protocol.Welcome)
	if !ok || w.Version != protocol.Version || len(w.Features) > 0 {
		t.Fatalf("%#v", w)
	}
	for _, c := range []struct {
		send protocol.Message
		want protocol.Kind
	}{
		{&protocol.Publish{Topic: "t", Count: 1, Records: batch.AppendRecord(nil, &batch.Record{})}, protocol.KindPublished},
		{&protocol.TopicGet{Name: "t"}, protocol.KindTopic},
		{&protocol.Subscribe{Sub: 1, Patterns: []string{"t"}}, protocol.KindSubscribed},
		{&protocol.Ping{Payload: 1}, protocol.KindPong},
	} {
		r.Write(longer(c.send, 2))
		if m := r.Receive(); m.Kind() != c.want {
			t.Errorf("%v of a later client: %#v", c.send.Kind(), m)
		}
	}
}

// TestT17BrokerRotation renews the broker's own certificate under load, with a bad file in between: nothing is dropped, the bad
// one changes nothing and is counted, and the next connection sees the new one.
func TestT17BrokerRotation(t *testing.T) {
	lane.Need(t, 2, "T-17")
	n := brokertest.Start(t, brokertest.Options{})
	c := dial(t, n, "orders")
	var ended atomic.Bool
	var wg sync.WaitGroup
	published := 0
	wg.Go(func() {
		for ; !ended.Load(); published++ {
			if _, err := c.Publish(t.Context(), "orders", client.Record{Body: []byte("x")}); err != nil {
				t.Errorf("record %d: %v", published, err)
				return
			}
		}
	})
	serial := func() string {
		t.Helper()
		r := n.Connect(t, n.PKI.Client("looker"))
		return identity.SerialText(r.ConnectionState().PeerCertificates[0].SerialNumber)
	}
	last := serial()
	for range 10 {
		n.PKI.Save("n1", n.PKI.Client("not-a-broker"))
		if err := n.Identity.Reload(); err == nil || n.Identity.Status().LastError == nil {
			t.Error("a client's certificate was taken for the broker's")
		}
		if serial() != last {
			t.Error("a bad file is in use")
		}
		n.PKI.Save("n1", n.PKI.Broker("n1"))
		if err := n.Identity.Reload(); err != nil || n.Identity.Status().LastError != nil {
			t.Fatal(err)
		}
		next := serial()
		if next == last {
			t.Error("the new certificate is not in use")
		}
		last = next
	}
	ended.Store(true)
	wg.Wait()
	info, ok := n.Dial(t, "admin").Ask(&protocol.TopicGet{Name: "orders"}).(*protocol.Topic)
	if !ok || info.Info.Partitions[0].Next != int64(published) || published == 0 {
		t.Errorf("%d published, %+v", published, info)
	}
	if who, err := c.WhoAmI(t.Context()); err != nil || !strings.HasSuffix(string(who.Principal), "/orders") {
		t.Error(who, err)
	}
}
