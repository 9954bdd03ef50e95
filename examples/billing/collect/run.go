package collect

import (
	"context"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// Report is what was read. After an error it tells how far it got.
type Report struct {
	Identity    string `json:"identity"` // as the broker sees the service
	Node        string `json:"node"`
	Topic       string `json:"topic"`
	Count       int    `json:"count"`
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`
	Publisher   string `json:"publisher"` // verified by the broker, the same for every order
	Checksum    string `json:"checksum"`
	TotalCents  int    `json:"total_cents"`
	Resumed     bool   `json:"resumed"` // the last connection resumed its TLS session
	DurationMs  int64  `json:"duration_ms"`
}

// Run reads and checks orders: cfg.Count of them, or all that are there.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	report := Report{Topic: cfg.Topic, FirstOffset: -1, LastOffset: -1}
	c, err := client.Dial(ctx, client.Options{
		Servers: cfg.Servers, ServerName: cfg.ServerName,
		CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, CAFile: cfg.CAFile,
		Name: "billing example",
	})
	if err != nil {
		return report, err
	}
	start := time.Now()
	err = collect(ctx, c, cfg, &report)
	report.DurationMs = time.Since(start).Milliseconds()
	welcome := c.Welcome()
	report.Identity, report.Node, report.Resumed = welcome.Identity, welcome.Node, welcome.Resumed
	if closeErr := c.Close(ctx); err == nil {
		err = closeErr
	}
	return report, err
}

// collect reads until it has what was asked for.
func collect(ctx context.Context, c *client.Client, cfg Config, report *Report) error {
	sub, err := c.Subscribe(ctx, client.SubscribeOptions{
		Topics: []string{cfg.Topic}, From: client.Earliest(), StopAtEnd: cfg.Count == 0,
	})
	if err != nil {
		return err
	}
	defer sub.Close()
	ledger := newLedger(cfg.Publisher)
	for m, err := range sub.Messages() {
		if err != nil {
			return err
		}
		if err := ledger.add(m); err != nil {
			return err
		}
		report.count(m)
		if report.Count == cfg.Count {
			break
		}
	}
	return ledger.close(cfg, report)
}

func (r *Report) count(m *client.Message) {
	if r.Count == 0 {
		r.FirstOffset = m.Offset
	}
	r.Count++
	r.LastOffset = m.Offset
}

// close fills in the sums and checks them against what was expected.
func (l *ledger) close(cfg Config, report *Report) error {
	report.Publisher, report.TotalCents = l.publisher, l.cents
	sum, err := l.checksum()
	if err != nil {
		return err
	}
	report.Checksum = sum
	if cfg.Checksum != "" && cfg.Checksum != sum {
		return fmt.Errorf("the orders have checksum %s, expected %s", sum, cfg.Checksum)
	}
	return nil
}
