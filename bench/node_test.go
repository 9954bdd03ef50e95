package bench_test

import (
	"context"
	"testing"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
)

// dial connects a client to a node in this process.
func dial(t testing.TB, n *brokertest.Node, name string) *client.Client {
	t.Helper()
	f := n.PKI.ClientFiles(name)
	c, err := client.Dial(t.Context(), client.Options{Servers: []string{n.Addr}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, Name: "bench"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// recordBytes is the body of a benchmark record.
const recordBytes = 256

// BenchmarkPublish is one client that publishes 256-byte records, pipelined, over mutual TLS to
// a node that fsyncs before it acknowledges. Client and node share this machine.
func BenchmarkPublish(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	c := dial(b, n, "bench")
	body := make([]byte, recordBytes)
	var last *client.Future
	b.SetBytes(recordBytes)
	b.ReportAllocs()
	for b.Loop() {
		last = c.PublishAsync(b.Context(), "bench.publish", client.Record{Body: body})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := last.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRead reads retained 256-byte records back. Each record is looked at.
func BenchmarkRead(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	c := dial(b, n, "bench")
	const records = 500_000
	body := make([]byte, recordBytes)
	for range records {
		c.PublishAsync(b.Context(), "bench.read", client.Record{Body: body})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(recordBytes * records)
	for b.Loop() {
		sub, err := c.Subscribe(b.Context(), client.SubscribeOptions{Topics: []string{"bench.read"}, From: client.Earliest(), StopAtEnd: true})
		if err != nil {
			b.Fatal(err)
		}
		next := int64(0)
		for m, err := range sub.Messages() {
			if err != nil {
				b.Fatal(err)
			}
			if m.Offset != next || len(m.Body) != recordBytes {
				b.Fatalf("offset %d with %d bytes, want %d", m.Offset, len(m.Body), next)
			}
			next++
		}
		if next != records {
			b.Fatalf("%d records, want %d", next, records)
		}
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}
