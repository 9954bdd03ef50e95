package client_test

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/memnet"
)

// memoryNode starts a whole node on a network in memory, for a bubble, and dials it.
func memoryNode(t *testing.T) (*brokertest.Node, *client.Client) {
	t.Helper()
	network := new(memnet.Network)
	n := brokertest.Start(t, brokertest.Options{Listen: func() (net.Listener, error) { return network.Listen("localhost:1") }})
	cert := n.PKI.Client("orders") // files would be watched, and a bubble cannot wait for that
	return n, dialNode(t, client.Options{Servers: []string{n.Addr}, CertPEM: cert.CertPEM, KeyPEM: cert.KeyPEM, CAPEM: n.PKI.RootsPEM(), Dialer: network.DialContext})
}

// publishEach publishes records in one batch each, with a time to live (0 = none).
func publishEach(t *testing.T, c *client.Client, ttl time.Duration, numbers ...int) {
	t.Helper()
	for _, i := range numbers {
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: body(i), TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNodeExpired: a record whose time to live has passed is handed out on no path. The broker leaves batches out of
// which nothing lives, and the client what has expired in the others, or while it waited in the client.
func TestNodeExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := memoryNode(t)
		waiting := subscribeNew(t, c)
		publishEach(t, c, time.Minute, 0, 1)
		publishEach(t, c, 0, 2)
		for i := range 4 { // mostly one batch: 3 and 5 live on
			ttl := time.Duration(0)
			if i%2 == 1 {
				ttl = time.Minute
			}
			c.PublishAsync(t.Context(), "orders", client.Record{Body: body(3 + i), TTL: ttl})
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		publishEach(t, c, time.Minute, 7, 8)
		early := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
		wantBodies(t, readAll(t, early), 0, 9)

		time.Sleep(time.Minute)
		living := []string{string(body(2)), string(body(3)), string(body(5))}
		for _, from := range []client.Start{client.Earliest(), client.AtOffset(0), client.AtOffset(1), client.Tail(9)} {
			late := subscribe(t, c, client.SubscribeOptions{From: from, StopAtEnd: true})
			if got := readAll(t, late); !slices.Equal(got, living) {
				t.Errorf("from %v: got %q, want %q", from, got, living)
			}
		}
		for _, want := range living {
			m, err := waiting.Next(t.Context())
			if err != nil || string(m.Body) != want {
				t.Errorf("what waited in the client: %v, %v; want %q", m, err, want)
			}
		}
		if got := delivered(t, n, c); got < 3 || got > 5 { // 2, and those of 3 to 6 whose batch has one that lives
			t.Errorf("the broker delivers %v records, in batches of which some live, want 3 to 5", got)
		}
	})
}

// subscribeNew reads what is published from now on.
func subscribeNew(t *testing.T, c *client.Client) *client.Subscription {
	t.Helper()
	if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	return subscribe(t, c, client.SubscribeOptions{})
}

// delivered counts the records that a plain reader is sent, in a bubble.
func delivered(t *testing.T, n *brokertest.Node, c *client.Client) float64 {
	t.Helper()
	synctest.Wait() // the broker counts a delivery after it was sent
	before := metric(t, n, "waxwing_delivered_records_total")
	readAll(t, subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true}))
	synctest.Wait()
	return metric(t, n, "waxwing_delivered_records_total") - before
}

func metric(t *testing.T, n *brokertest.Node, name string) float64 {
	t.Helper()
	families, err := n.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestNodeGap: whoever comes for records that retention took, or is overtaken by it, learns what is missing, and goes on
// behind it.
func TestNodeGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := memoryNode(t)
		if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{MaxRecords: 10}); err != nil {
			t.Fatal(err)
		}
		// A reader with so little room that the broker holds most of the records back.
		slow := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), WindowRecords: 2})
		numbers := make([]int, 100)
		for i := range numbers {
			numbers[i] = i
		}
		publishEach(t, c, 0, numbers...)
		time.Sleep(time.Minute) // retention looks every 10 s
		overtaken := wantGap(t, slow, 90)
		if overtaken == 0 || overtaken == 90 {
			t.Errorf("the slow reader got %d records before the gap", overtaken)
		}
		late := subscribe(t, c, client.SubscribeOptions{From: client.AtOffset(0)})
		if read := wantGap(t, late, 90); read != 0 {
			t.Errorf("%d records below the low offset were delivered", read)
		}
		var told []client.Event
		events := subscribe(t, c, client.SubscribeOptions{From: client.AtOffset(5), StopAtEnd: true, OnEvent: func(e client.Event) { told = append(told, e) }})
		wantBodies(t, readAll(t, events), 90, 100)
		if len(told) != 1 || *told[0].(*client.GapEvent) != (client.GapEvent{Topic: "orders", From: 5, To: 90}) {
			t.Errorf("events %v", told)
		}
	})
}

// wantGap reads up to one gap, which must reach from the record that came last to offset to, and the ten records
// behind it. It returns how many came before.
func wantGap(t *testing.T, sub *client.Subscription, to int64) (before int64) {
	t.Helper()
	for next := int64(0); ; next++ {
		m, err := sub.Next(t.Context())
		if gap, ok := errors.AsType[*client.GapEvent](err); ok {
			if gap.From != next || gap.To != to || before > 0 {
				t.Errorf("gap %+v behind record %d", gap, next-1)
			}
			before, next = next, to-1
			continue
		}
		if err != nil || m.Offset != next || string(m.Body) != string(body(int(next))) {
			t.Fatalf("record %d: %+v, %v", next, m, err)
		}
		if next == to+9 {
			return before
		}
	}
}
