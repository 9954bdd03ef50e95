package client_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		for i := range 3 {
			ack, err := c.Publish(t.Context(), "orders", client.Record{Body: body(i)})
			if err != nil || ack.Offset != int64(i) || ack.Topic != "orders" {
				t.Fatalf("publish %d: %+v, %v", i, ack, err)
			}
		}
		w.wantRecords("orders", 3)
	})
}

// publishMany publishes n records and waits for all; acks must be in order.
func publishMany(t *testing.T, c *client.Client, n int) (duplicates int) {
	t.Helper()
	futures := make([]*client.Future, n)
	for i := range n {
		futures[i] = c.PublishAsync(t.Context(), "orders", client.Record{Body: body(i)})
	}
	for i, f := range futures {
		ack, err := f.Wait(t.Context())
		if err != nil {
			t.Errorf("record %d: %v", i, err)
			return
		}
		if ack.Offset != int64(i) {
			t.Errorf("record %d has offset %d", i, ack.Offset)
			return
		}
		if ack.Duplicate {
			duplicates++
		}
	}
	return duplicates
}

// smallBatches makes many batches out of few records.
func smallBatches(o *client.Options) { o.BatchBytes, o.WindowBytes = 512, 16<<10 }

// A connection that breaks at random points loses, doubles and reorders nothing.
func TestPublishThroughCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		w.wrapConns(func(c net.Conn) net.Conn { return &fuse{Conn: c, left: 8_000 + rnd.IntN(60_000)} })
		c := w.dial(smallBatches)
		const n = 20_000
		publishMany(t, c, n)
		w.wantRecords("orders", n)
		if w.broker.duplicates == 0 {
			t.Error("no resend was recognised: the test cut nothing of interest")
		}
		t.Logf("%d connections, %d batches, %d of them known already", w.broker.hellos, w.broker.publishes, w.broker.duplicates)
	})
}

// A rejection in the middle makes the client number anew; order holds.
func TestPublishThroughRejections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		rnd := rand.New(rand.NewPCG(1, 2))
		codes := []protocol.Code{protocol.CodeOverloaded, protocol.CodeNotLeader, protocol.CodeNoQuorum, protocol.CodeTimeout}
		w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
			if _, ok := m.(*protocol.Publish); !ok || rnd.IntN(10) > 0 {
				return false
			}
			c.reject(id, codes[rnd.IntN(len(codes))], protocol.OutcomeRejected)
			return true
		}
		c := w.dial(smallBatches)
		const n = 3_000
		publishMany(t, c, n)
		w.wantRecords("orders", n)
	})
}

// An UNKNOWN answer is resolved by sending again with the same numbers, whether the
// batch was stored or not.
func TestPublishThroughUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		rnd := rand.New(rand.NewPCG(3, 4))
		w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
			p, ok := m.(*protocol.Publish)
			if !ok {
				return false
			}
			switch rnd.IntN(30) {
			case 0: // stored, but nobody knows
				w.broker.appendBatch(w.broker.topics["orders"].parts[0], p)
				c.reject(id, protocol.CodeUnknownOutcome, protocol.OutcomeUnknown)
			case 1: // not stored, and nobody knows
				c.reject(id, protocol.CodeUnknownOutcome, protocol.OutcomeUnknown)
			case 2: // known not to be stored
				c.reject(id, protocol.CodeOverloaded, protocol.OutcomeRejected)
			default:
				return false
			}
			return true
		}
		c := w.dial(smallBatches)
		const n = 3_000
		if publishMany(t, c, n) == 0 {
			t.Error("no record was recognised as a duplicate")
		}
		w.wantRecords("orders", n)
	})
}

// A batch that is refused for good fails alone; those behind it are stored.
func TestPublishRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		count := 0
		w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
			if _, ok := m.(*protocol.Publish); !ok {
				return false
			}
			if count++; count != 2 {
				return false
			}
			c.send(id, &protocol.Error{Code: protocol.CodeDenied, Outcome: protocol.OutcomeRejected, Rule: "writers", Line: 12, PolicyVer: 3})
			return true
		}
		c := w.dial()
		var futures []*client.Future
		for i := range 4 {
			futures = append(futures, c.PublishAsync(t.Context(), "orders", client.Record{Body: body(i)}))
			synctest.Wait()
		}
		for i, f := range futures {
			_, err := f.Wait(t.Context())
			if (i == 1) != (err != nil) {
				t.Errorf("record %d: %v", i, err)
			}
		}
		_, err := futures[1].Wait(t.Context())
		denied, ok := errors.AsType[*client.DeniedError](err)
		if !ok || denied.Rule != "writers" || denied.Line != 12 || denied.PolicyVersion != 3 || !errors.Is(err, client.ErrDenied) {
			t.Errorf("got %v", err)
		}
		if got := len(w.broker.records("orders", 0)); got != 3 {
			t.Errorf("%d records stored, want 3", got)
		}
	})
}
