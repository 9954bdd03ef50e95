package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Publish sends one record and waits until it is durable. For throughput, use
// PublishAsync or call Publish from many goroutines.
//
// Errors: *DeniedError and *RejectedError say that the record is not stored;
// *UnknownOutcomeError says that it may be, for example because ctx ended first. A
// record is never stored twice by the client's own retries.
func (c *Client) Publish(ctx context.Context, topicName string, r Record, opts ...PublishOption) (Ack, error) {
	return c.PublishAsync(ctx, topicName, r, opts...).Wait(ctx)
}

// PublishAsync hands a record over and returns without waiting for the broker, so
// that many travel together. It waits only for the description of a topic on its
// first use, and while Options.WindowBytes of records are unacknowledged; ctx bounds
// that wait and nothing else. The record's slices may be reused at once.
//
// Every future should be waited for, or Flush called: that is where errors show.
// Records of one partition are stored in the order of the calls.
func (c *Client) PublishAsync(ctx context.Context, topicName string, r Record, opts ...PublishOption) *Future {
	var opt PublishOption
	for _, o := range opts {
		if o.hasPartition {
			opt = o
		}
	}
	rec := batch.Record(r)
	f, err := c.producer.add(ctx, topicName, &rec, opt)
	if err != nil {
		return failed(topicName, err)
	}
	return f
}

// Flush waits until every record that was published before has its outcome, and
// returns the first error among those that had none yet.
func (c *Client) Flush(ctx context.Context) error {
	if err := c.producer.flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// checkLocked refuses a record that the broker would refuse, before it can take
// others of its batch with it.
func (p *producer) checkLocked(name string, r *batch.Record) error {
	if r.TTL < 0 || r.TTL > 0 && r.TTL < time.Millisecond {
		return &RejectedError{Op: "publish", Resource: name, Code: protocol.CodeInvalid,
			Text: fmt.Sprintf("TTL is %s; it must be 0 (none) or at least 1ms", r.TTL)}
	}
	err := batch.Check(r, &p.recordLimits)
	if err == nil {
		return nil
	}
	code := protocol.CodeInvalid
	if _, tooLarge := errors.AsType[*batch.LimitError](err); tooLarge {
		code = protocol.CodeTooLarge
	}
	return &RejectedError{Op: "publish", Resource: name, Code: code, Text: err.Error() + "; nothing was sent"}
}

// recordLimits are the broker's limits in the terms of package batch.
func recordLimits(l *protocol.Limits) batch.Limits {
	return batch.Limits{
		RecordBytes: int(min(l.RecordBytes, l.BatchBytes)), KeyBytes: int(l.KeyBytes),
		HeaderBytes: int(l.HeaderBytes), HeaderCount: int(l.HeaderCount),
		Records: int(l.BatchRecords), Bytes: int(l.BatchBytes),
	}
}
