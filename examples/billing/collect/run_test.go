package collect_test

import (
	"testing"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/examples/billing/collect"
	"github.com/waxwing-mq/waxwing/examples/orders/publish"
)

// The two services against a whole node: what one publishes the other reads, to the
// last byte, and both report the same.
func TestOrdersToBilling(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	orders, billing := n.PKI.ClientFiles("orders"), n.PKI.ClientFiles("billing")
	const count = 10_000
	sent, err := publish.Run(t.Context(), publish.Config{Servers: []string{n.Addr}, CertFile: orders.Cert, KeyFile: orders.Key, CAFile: orders.CA, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Count != count || sent.FirstOffset != 0 || sent.LastOffset != count-1 || sent.Identity != "spiffe://test.example/client/orders" || sent.Connections != 1 {
		t.Errorf("orders: %+v", sent)
	}
	read := collect.Config{
		Servers: []string{n.Addr}, CertFile: billing.Cert, KeyFile: billing.Key, CAFile: billing.CA,
		Publisher: sent.Identity, Checksum: sent.Checksum,
	}
	for _, read.Count = range []int{0, count} { // what is there, and waiting for so many
		got, err := collect.Run(t.Context(), read)
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != count || got.Checksum != sent.Checksum || got.Publisher != sent.Identity || got.LastOffset != sent.LastOffset || got.Identity != "spiffe://test.example/client/billing" {
			t.Errorf("billing: %+v", got)
		}
	}
	read.Publisher = "spiffe://test.example/client/intruder"
	if got, err := collect.Run(t.Context(), read); err == nil || got.Count != 0 {
		t.Errorf("another publisher was accepted: %+v", got)
	}
}
