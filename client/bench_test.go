package client_test

import (
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

const benchBytes = 256

// BenchmarkPublish is the client's share of a flood of records: encode, batch, TLS,
// acknowledge. The fake broker answers without looking, on the same cores.
func BenchmarkPublish(b *testing.B) {
	w := newWorld(b)
	w.broker.create("orders", 1)
	offset := int64(0)
	w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
		p, ok := m.(*protocol.Publish)
		if ok {
			c.send(id, &protocol.Published{Offset: offset})
			offset += int64(p.Count)
		}
		return ok
	}
	c := w.dial()
	r := client.Record{Body: make([]byte, benchBytes)}
	b.ReportAllocs()
	b.SetBytes(benchBytes)
	for b.Loop() {
		c.PublishAsync(b.Context(), "orders", r)
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// storedBatch is n records of benchBytes as a broker delivers them.
func storedBatch(n int) []byte {
	var blob []byte
	for range n {
		blob = batch.AppendRecord(blob, &batch.Record{Body: make([]byte, benchBytes)})
	}
	return batch.Append(nil, &batch.Meta{Base: topic.Offset(0), Count: uint32(n), Publisher: "spiffe://test/client/orders"}, blob)
}

// BenchmarkConsume is the reading half alone: from a DELIVER frame to a Message.
func BenchmarkConsume(b *testing.B) {
	const records = 1000
	feed := client.NewFeed(&protocol.Deliver{Sub: 1, Topic: "orders", Next: records, Records: records, Batches: storedBatch(records)})
	b.ReportAllocs()
	b.SetBytes(benchBytes)
	for b.Loop() {
		if m := feed.Next(); len(m.Body) != benchBytes {
			b.Fatal("wrong body")
		}
	}
}

// One record costs the program at most a share of a slab of futures.
func TestPublishAllocs(t *testing.T) {
	w := newWorld(t)
	w.broker.create("orders", 1)
	c := w.dial()
	publishMany(t, c, 1)
	r := client.Record{Body: make([]byte, benchBytes)}
	got := testing.AllocsPerRun(20_000, func() { c.PublishAsync(t.Context(), "orders", r) })
	if got >= 1 { // reported as an integer, rounded down; includes the client's goroutines
		t.Errorf("%v allocations per record, want less than one", got)
	}
}

// One message costs at most a share of a slab of messages.
func TestConsumeAllocs(t *testing.T) {
	const records = 1000
	feed := client.NewFeed(&protocol.Deliver{Sub: 1, Topic: "orders", Next: records, Records: records, Batches: storedBatch(records)})
	feed.Next()
	if got := testing.AllocsPerRun(20_000, func() { feed.Next() }); got >= 1 {
		t.Errorf("%v allocations per message, want less than one", got)
	}
}

// BenchmarkNodePublish is acknowledged records of 256 B, fsynced by a whole node in the
// same process, on the same cores.
func BenchmarkNodePublish(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	c := dialNode(b, nodeOptions(n, "orders"))
	r := client.Record{Body: make([]byte, benchBytes)}
	if _, err := c.Publish(b.Context(), "orders", r); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		c.PublishAsync(b.Context(), "orders", r)
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "records/s")
}

// BenchmarkNodeRead reads records of 256 B back from a whole node in the same process.
func BenchmarkNodeRead(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	c := dialNode(b, nodeOptions(n, "orders"))
	const records = 400_000
	for range records {
		c.PublishAsync(b.Context(), "orders", client.Record{Body: make([]byte, benchBytes)})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	rounds := 0
	for b.Loop() {
		start := time.Now()
		count := 0
		read := client.SubscribeOptions{Topics: []string{"orders"}, From: client.Earliest(), StopAtEnd: true}
		if err := c.SubscribeFunc(b.Context(), read, func(*client.Message) error { count++; return nil }); err != nil || count != records {
			b.Fatalf("%d records, %v", count, err)
		}
		took += time.Since(start)
		rounds++
	}
	b.ReportMetric(float64(records*rounds)/took.Seconds(), "records/s")
}
