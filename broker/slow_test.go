package broker_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// dial connects a real client.
func dial(t testing.TB, n *brokertest.Node, name string) *client.Client {
	t.Helper()
	f := n.PKI.ClientFiles(name)
	c, err := client.Dial(t.Context(), client.Options{Servers: []string{n.Addr}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// publishMany publishes n records of a size and waits for them.
func publishMany(t testing.TB, c *client.Client, topicName string, n, size int) {
	t.Helper()
	body := make([]byte, size)
	for range n {
		c.PublishAsync(t.Context(), topicName, client.Record{Body: body})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// heap is what the process holds after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestO03SlowReaders stops ten readers, with all the credit they want, on a topic that grows by 128 MiB:
// what they cost stays within outbox and socket, others read everything meanwhile, and the slow ones, read on, miss nothing.
func TestO03SlowReaders(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	publisher := dial(t, n, "publisher")
	publishMany(t, publisher, "hot", 1, 8)
	const readers = 10
	var slow []*brokertest.Raw
	for range readers {
		r := n.Dial(t, "slow")
		if m := r.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{"hot"}, Start: protocol.StartEarliest, CreditBytes: 1 << 40, CreditRecords: 1 << 40}); m.Kind() != protocol.KindSubscribed {
			t.Fatalf("%#v", m)
		}
		slow = append(slow, r)
	}
	const batches, records, size = 16, 8192, 1024
	before := heap()
	for range batches {
		publishMany(t, publisher, "hot", records, size)
	}
	grown := int64(heap()) - int64(before)
	// Tail cache (64 MiB) and write queue (64 MiB) hold the records once, for everybody; beyond that each reader may hold its
	// outbox twice (queued and being written) and one read buffer.
	if most := int64(64<<20+64<<20) + readers*(4<<20); grown > most {
		t.Errorf("the broker grew by %d MiB, want at most %d MiB", grown>>20, most>>20)
	}
	seen := 0
	err := dial(t, n, "fast").SubscribeFunc(t.Context(), client.SubscribeOptions{Topics: []string{"hot"}, From: client.Earliest(), StopAtEnd: true}, func(*client.Message) error {
		seen++
		return nil
	})
	if want := 1 + batches*records; err != nil || seen != want {
		t.Errorf("a reader beside the stopped ones saw %d of %d records, %v", seen, want, err)
	}
	next := int64(0)
	for next < 1+batches*records {
		d, ok := slow[0].Receive().(*protocol.Deliver)
		if !ok {
			t.Fatal("no delivery")
		}
		if d.Next <= next {
			t.Fatalf("delivered up to %d after %d", d.Next, next)
		}
		next = d.Next
	}
}

// TestIdleConnectionMemory opens idle connections and divides what the process holds more by them. Client and broker
// are both in this process, so the bound holds for the two ends together.
func TestIdleConnectionMemory(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	cert := n.PKI.Client("idle")
	open := func() {
		r := n.Connect(t, cert)
		r.Hello()
	}
	for range 50 { // what is paid once
		open()
	}
	const conns = 400
	before := heap()
	for range conns {
		open()
	}
	each := (int64(heap()) - int64(before)) / conns
	t.Logf("%d bytes per idle connection, both ends", each)
	if each > 80<<10 {
		t.Errorf("an idle connection costs %d KiB on both ends, want at most 40 each", each>>10)
	}
}
