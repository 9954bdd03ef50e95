package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

func TestPartitionOfKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 7)
		c := w.dial()
		for i := range 50 {
			key := fmt.Appendf(nil, "key %d", i)
			ack, err := c.Publish(t.Context(), "orders", client.Record{Key: key})
			if want := topic.PartitionFor(key, 7); err != nil || ack.Partition != want {
				t.Errorf("key %q: partition %d, want %d (%v)", key, ack.Partition, want, err)
			}
		}
	})
}

// Records without a key stay together in a batch, and batches go round.
func TestPartitionWithoutKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 3)
		c := w.dial(smallBatches)
		var futures []*client.Future
		for i := range 300 {
			futures = append(futures, c.PublishAsync(t.Context(), "orders", client.Record{Body: body(i)}))
		}
		count := make(map[uint32]int)
		changes := 0
		var last uint32
		for _, f := range futures {
			ack, err := f.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			count[ack.Partition]++
			if ack.Partition != last {
				changes++
			}
			last = ack.Partition
		}
		if len(count) != 3 || changes > 150 {
			t.Errorf("partitions %v, %d changes", count, changes)
		}
	})
}

func TestPartitionAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 3)
		c := w.dial()
		ack, err := c.Publish(t.Context(), "orders", client.Record{Key: []byte("k")}, client.ToPartition(2))
		if err != nil || ack.Partition != 2 {
			t.Errorf("got %+v, %v", ack, err)
		}
		if _, err = c.Publish(t.Context(), "orders", client.Record{}, client.ToPartition(3)); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("partition 3: %v", err)
		}
	})
}

func TestPublishCreatesMissingTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		if _, err := c.Publish(t.Context(), "orders", client.Record{}); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("without auto_create: %v", err)
		}
		w.broker.autoCreate = true
		if _, err := c.Publish(t.Context(), "orders", client.Record{}); err != nil {
			t.Error(err)
		}
		if _, err := c.Publish(t.Context(), "no such name", client.Record{}); err == nil {
			t.Error("a bad name was accepted")
		}
	})
}

// A topic that was created anew is looked at again, and its log counted from 0.
func TestPublishThroughRecreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 5)
		w.broker.create("orders", 1)
		publishMany(t, c, 5)
		w.wantRecords("orders", 5)
	})
}

// A topic that got more partitions is used in full some minutes later.
func TestPublishToGrowingTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 1)
		w.broker.mu.Lock()
		orders := w.broker.topics["orders"]
		orders.parts = append(orders.parts, &fakePart{producers: make(map[[16]byte]*fakeProducer)})
		w.broker.mu.Unlock()
		<-time.After(6 * time.Minute)
		if ack, err := c.Publish(t.Context(), "orders", client.Record{}, client.ToPartition(1)); err != nil || ack.Partition != 1 {
			t.Errorf("got %+v, %v", ack, err)
		}
	})
}

// The broker's limits are kept to before anything is sent.
func TestPublishLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		big := strings.Repeat("x", 1<<20)
		for name, r := range map[string]client.Record{
			"body":        {Body: []byte(big)},
			"key":         {Key: make([]byte, 5000)},
			"headers":     {Headers: []client.Header{{Name: "a", Value: big[:70_000]}}},
			"twice":       {Headers: []client.Header{{Name: "a"}, {Name: "a"}}},
			"not UTF-8":   {Headers: []client.Header{{Name: "\xff"}}},
			"negative":    {TTL: -1},
			"nanoseconds": {TTL: 1},
		} {
			_, err := c.Publish(t.Context(), "orders", r)
			if _, ok := errors.AsType[*client.RejectedError](err); !ok {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w.broker.publishes != 0 {
			t.Errorf("%d batches were sent", w.broker.publishes)
		}
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: []byte(big[:1<<20-100])}); err != nil {
			t.Errorf("a record just below the limit: %v", err)
		}
	})
}

// With the window full of unacknowledged records PublishAsync waits, and no longer
// than its context.
func TestPublishWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial(func(o *client.Options) { o.WindowBytes = 1000 })
		publishMany(t, c, 1)
		var held []func()
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			p, ok := m.(*protocol.Publish)
			if ok {
				held = append(held, func() { w.broker.publish(fc, id, p) })
			}
			return ok
		}
		r := client.Record{Body: make([]byte, 300)}
		for range 3 {
			c.PublishAsync(t.Context(), "orders", r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.PublishAsync(ctx, "orders", r).Wait(t.Context())
		if !errors.Is(err, client.ErrTimeout) || time.Since(start) != time.Second {
			t.Errorf("with a full window: %v after %s", err, time.Since(start))
		}
		through := make(chan struct{})
		go func() {
			c.PublishAsync(t.Context(), "orders", r)
			close(through)
		}()
		synctest.Wait()
		select {
		case <-through:
			t.Fatal("the window did not hold")
		default:
		}
		w.broker.mu.Lock()
		w.broker.onFrame = nil
		for _, answer := range held {
			answer()
		}
		w.broker.mu.Unlock()
		<-through
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A record that nobody answers ends after RequestTimeout: unknown if it was sent.
func TestPublishTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 1)
		w.broker.onFrame = func(_ *fakeConn, _ uint64, m protocol.Message) bool {
			_, ok := m.(*protocol.Publish)
			return ok
		}
		_, err := c.PublishAsync(t.Context(), "orders", client.Record{Body: body(1)}).Wait(t.Context())
		if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok || !errors.Is(err, client.ErrTimeout) {
			t.Errorf("sent: %v", err)
		}
		w.broker.mu.Lock()
		w.broker.onFrame = nil
		w.broker.mu.Unlock()
		if ack, err := c.Publish(t.Context(), "orders", client.Record{Body: body(2)}); err != nil || ack.Offset != 1 {
			t.Errorf("after it: %+v, %v", ack, err)
		}
	})
}

// A context that ends while a record travels says that its outcome is unknown.
func TestPublishContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 1)
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			if _, ok := m.(*protocol.Publish); !ok {
				return false
			}
			fc.reject(id, protocol.CodeNoQuorum, protocol.OutcomeRejected)
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Publish(ctx, "orders", client.Record{Body: body(1)})
		if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok || !errors.Is(err, client.ErrTimeout) || !errors.Is(err, client.ErrNoQuorum) {
			t.Errorf("got %v", err)
		}
		_, err = c.Publish(t.Context(), "orders", client.Record{Body: body(2)}) // until RequestTimeout
		if !errors.Is(err, client.ErrTimeout) || !errors.Is(err, client.ErrNoQuorum) {
			t.Errorf("got %v", err)
		}
		if _, unknown := errors.AsType[*client.UnknownOutcomeError](err); unknown {
			t.Errorf("a record that was always rejected is not unknown: %v", err)
		}
	})
}
