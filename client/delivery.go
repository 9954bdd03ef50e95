package client

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Delivery is a record of a consumer group that this member holds until it settles it, or its time is up. To settle twice
// is no error: the first one counts.
type Delivery struct {
	Message
	// Attempt is the number of this delivery, from 1. A failover may count one too few.
	Attempt uint64

	consumer *Consumer
	id       uint64 // of the partition
}

func (d *Delivery) key() heldKey { return heldKey{d.id, d.Offset} }

func (d *Delivery) item(op uint8) protocol.Settlement {
	return protocol.Settlement{Op: op, ID: d.id, Offset: d.Offset, Attempt: d.Attempt}
}

// Ack says that the record is done. It does not wait: what was acknowledged is sent together, and again after a lost connection.
// If the process ends before, the record is delivered again.
func (d *Delivery) Ack() { d.consumer.settle(&settling{item: d.item(protocol.SettleAck)}) }

// AckSync says that the record is done and waits until a majority has it on disk. ErrStaleDelivery: it was delivered again before.
// When ctx ends first the outcome is unknown.
func (d *Delivery) AckSync(ctx context.Context) error {
	return d.wait(ctx, d.item(protocol.SettleAck))
}

// Nack gives the record back: it is delivered again, to any member, after the group's back-off, or at once if it has none.
func (d *Delivery) Nack() { d.consumer.settle(&settling{item: d.item(protocol.SettleNack)}) }

// NackDelay is Nack with a delay of its own, at most a year.
func (d *Delivery) NackDelay(delay time.Duration) {
	item := d.item(protocol.SettleNack)
	item.HasDelay, item.DelayMs = true, uint64(max(delay.Milliseconds(), 0))
	d.consumer.settle(&settling{item: item})
}

// Term says that the record is never to be delivered again. It is put aside, with the reason. It waits as AckSync does.
func (d *Delivery) Term(ctx context.Context, reason string) error {
	item := d.item(protocol.SettleTerm)
	item.Reason = reason
	return d.wait(ctx, item)
}

// Extend gives the member anew the time that it has for the record. It waits for the answer.
func (d *Delivery) Extend(ctx context.Context) error {
	return d.wait(ctx, d.item(protocol.SettleExtend))
}

func (d *Delivery) wait(ctx context.Context, item protocol.Settlement) error {
	ctx, cancel := d.consumer.client.bounded(ctx)
	defer cancel()
	answer := make(chan error, 1)
	d.consumer.settle(&settling{item: item, done: func(err error) { answer <- err }})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return &UnknownOutcomeError{Op: "settle", Resource: d.consumer.group, Err: ended(ctx)}
	}
}
