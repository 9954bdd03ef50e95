package publish

import (
	"context"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// Report is what was acknowledged. After an error it tells how far it got.
type Report struct {
	Identity    string `json:"identity"` // as the broker sees the service
	Node        string `json:"node"`
	Topic       string `json:"topic"`
	Count       int    `json:"count"` // acknowledged orders
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`
	Checksum    string `json:"checksum"`   // over the acknowledged orders
	Duplicates  int    `json:"duplicates"` // resends that the broker recognised
	Connections int    `json:"connections"`
	Resumed     bool   `json:"resumed"` // the last connection resumed its TLS session
	DurationMs  int64  `json:"duration_ms"`
}

// inFlight is how many unacknowledged orders the service keeps futures of.
const inFlight = 8192

// Run publishes cfg.Count orders and waits for every acknowledgement.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	report := Report{Topic: cfg.Topic, FirstOffset: -1, LastOffset: -1}
	connections := make(chan struct{}, 1024)
	c, err := client.Dial(ctx, client.Options{
		Servers: cfg.Servers, ServerName: cfg.ServerName,
		CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, CAFile: cfg.CAFile,
		Name: "orders example",
		OnEvent: func(e client.Event) {
			if _, ok := e.(*client.ConnectedEvent); ok {
				connections <- struct{}{}
			}
		},
	})
	if err != nil {
		return report, err
	}
	start := time.Now()
	err = publishAll(ctx, c, cfg, &report)
	report.DurationMs = time.Since(start).Milliseconds()
	welcome := c.Welcome()
	report.Identity, report.Node, report.Resumed = welcome.Identity, welcome.Node, welcome.Resumed
	if closeErr := c.Close(ctx); err == nil {
		err = closeErr
	}
	report.Connections = len(connections)
	return report, err
}

// publishAll keeps a bounded number of orders in flight.
func publishAll(ctx context.Context, c *client.Client, cfg Config, report *Report) error {
	sum := newChecksum()
	defer func() { report.Checksum = sum.String() }()
	var waiting []pending
	for n := range cfg.Count {
		order := orderNumber(n)
		body, err := order.encode()
		if err != nil {
			return err
		}
		waiting = append(waiting, pending{body, c.PublishAsync(ctx, cfg.Topic, client.Record{Key: []byte(order.Customer), Body: body})})
		if len(waiting) < inFlight {
			continue
		}
		half := waiting[:inFlight/2]
		if err := settle(ctx, half, sum, report); err != nil {
			return err
		}
		waiting = waiting[:copy(waiting, waiting[len(half):])]
	}
	return settle(ctx, waiting, sum, report)
}

// pending is an order whose acknowledgement is still to come.
type pending struct {
	body   []byte
	future *client.Future
}

// settle waits for acknowledgements and counts them.
func settle(ctx context.Context, waiting []pending, sum checksum, report *Report) error {
	for _, p := range waiting {
		ack, err := p.future.Wait(ctx)
		if err != nil {
			return fmt.Errorf("order %d: %w", report.Count, err)
		}
		report.count(ack)
		sum.add(p.body)
	}
	return nil
}

func (r *Report) count(ack client.Ack) {
	if r.Count == 0 {
		r.FirstOffset = ack.Offset
	}
	r.Count++
	r.LastOffset = ack.Offset
	if ack.Duplicate {
		r.Duplicates++
	}
}
