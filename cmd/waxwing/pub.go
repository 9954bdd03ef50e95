package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

// pubOptions are the flags of pub.
type pubOptions struct {
	topic     string
	lines     bool
	jsonl     bool
	file      string
	count     int
	key       string
	hasKey    bool
	headers   []string
	rate      float64
	ttl       string
	partition int
}

func newPubCommand(a *app) *cobra.Command {
	var o pubOptions
	c := &cobra.Command{
		Use:   "pub TOPIC [BODY]",
		Short: "Publish records",
		Long: `Publish records and wait until each is acknowledged: fsynced by the broker.

The body is the argument, or all of standard input when it is absent or '-'. With --lines each line is a
record; with --jsonl each line is an object with body or body_base64 and, as wanted, key, headers, ttl and partition.
Lines are published as they arrive. With -o json a line is printed per acknowledged record.

If a record was not acknowledged the command says which one and why, and ends with an exit code other than 0:
"rejected" will never appear, "unknown" may appear once or never.`,
		Example: `  waxwing pub greetings.en hello
  tail -f app.log | waxwing pub logs.app --lines
  waxwing pub orders.eu -k 42 -H source=shop -f order.json`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, list []string) error {
			o.topic, o.hasKey = list[0], c.Flags().Changed("key")
			return a.publish(c.Context(), &o, list[1:])
		},
	}
	f := c.Flags()
	f.BoolVar(&o.lines, "lines", false, "one record per line of input")
	f.BoolVar(&o.jsonl, "jsonl", false, "one JSON object per line of input")
	f.StringVarP(&o.file, "file", "f", "", "read from a file instead of standard input")
	f.IntVarP(&o.count, "count", "n", 1, "publish the body so many times")
	f.StringVarP(&o.key, "key", "k", "", "key of the records")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header NAME=VALUE, repeatable")
	f.Float64Var(&o.rate, "rate", 0, "records per second at most")
	f.StringVar(&o.ttl, "ttl", "", "time to live of the records, such as 30s")
	f.IntVar(&o.partition, "partition", -1, "partition to publish to, whatever the key")
	return c
}

// check refuses combinations that make no sense.
func (o *pubOptions) check(body []string) error {
	input := o.stream()
	switch {
	case o.lines && o.jsonl:
		return usage("pub: --lines and --jsonl exclude each other")
	case o.file != "" && len(body) > 0 && body[0] != "-":
		return usage("pub: give a body or -f FILE, not both")
	case input && len(body) > 0 && body[0] != "-":
		return usage("pub: --lines and --jsonl read from standard input or -f FILE; the argument %q has no place", body[0])
	case o.count < 1 || input && o.count > 1:
		return usage("pub: -n must be at least 1, and goes with one body, not with --lines or --jsonl")
	case o.rate < 0:
		return usage("pub: --rate must be above 0")
	}
	return nil
}

// record is what the flags say about every record.
func (o *pubOptions) record() (client.Record, error) {
	r := client.Record{}
	if o.hasKey {
		r.Key = []byte(o.key)
	}
	for _, text := range o.headers {
		h, err := parseHeader(text)
		if err != nil {
			return r, err
		}
		r.Headers = append(r.Headers, h)
	}
	if o.ttl != "" {
		d, err := time.ParseDuration(o.ttl)
		if err != nil || d <= 0 {
			return r, usage("pub: --ttl %q: give a duration above zero, such as 30s", o.ttl)
		}
		r.TTL = d
	}
	return r, nil
}

// publish reads input, publishes it, and accounts for every record.
func (a *app) publish(ctx context.Context, o *pubOptions, body []string) error {
	if err := o.check(body); err != nil {
		return err
	}
	base, err := o.record()
	if err != nil {
		return err
	}
	in, err := a.openInput(o, base, body)
	if err != nil {
		return err
	}
	defer in.close()
	return a.with(ctx, func(ctx context.Context, c *client.Client) error {
		p := newPublishing(ctx, a, c, o)
		return errors.Join(p.send(ctx, in), p.finish(ctx))
	})
}

// publishing sends records and collects their acknowledgements, in order.
type publishing struct {
	a       *app
	c       *client.Client
	o       *pubOptions
	futures chan sent
	done    chan struct{}
	noUse   chan struct{} // closed when the records to come would fail like the last one

	// Owned by collect until done is closed.
	acked  int
	failed ranges
	first  error
	stop   sync.Once

	// Owned by send until futures is closed.
	unread int // number of the first record that was not even read, 0 = all were
}

// sent is a record on its way.
type sent struct {
	number int
	future *client.Future
}

// futuresMax bounds how many records wait for their acknowledgement to be looked at.
const futuresMax = 4096

func newPublishing(ctx context.Context, a *app, c *client.Client, o *pubOptions) *publishing {
	p := &publishing{a: a, c: c, o: o, futures: make(chan sent, futuresMax), done: make(chan struct{}), noUse: make(chan struct{})}
	go p.collect(ctx)
	return p
}

// send publishes everything that the input yields.
func (p *publishing) send(ctx context.Context, in *input) error {
	defer close(p.futures)
	pace := newPace(p.o.rate)
	for n := 1; ; n++ {
		select {
		case <-p.noUse:
			if p.o.stream() || n <= p.o.count {
				p.unread = n
			}
			return nil
		default:
		}
		item, err := in.next(ctx)
		if err != nil || item == nil {
			return err
		}
		if err := pace.wait(ctx); err != nil {
			return err
		}
		var options []client.PublishOption
		if item.partition >= 0 {
			options = append(options, client.ToPartition(uint32(item.partition)))
		}
		future := p.c.PublishAsync(ctx, p.o.topic, item.record, options...)
		p.futures <- sent{item.number, future}
	}
}

// collect waits for each acknowledgement and prints what was asked for. Once ctx ends it waits for none any
// more, and says of each that it is unknown.
func (p *publishing) collect(ctx context.Context) {
	defer close(p.done)
	for s := range p.futures {
		ack, err := s.future.Wait(ctx)
		if err != nil {
			p.fail(s.number, err)
			continue
		}
		p.acked++
		if p.a.flags.output == "json" {
			fmt.Fprintf(p.a.stdout, "{\"topic\":%q,\"partition\":%d,\"offset\":%d,\"duplicate\":%t}\n", ack.Topic, ack.Partition, ack.Offset, ack.Duplicate)
		}
	}
}

// failuresShown bounds how many records are named that were not acknowledged.
const failuresShown = 20

// fail notes a record that was not acknowledged. Unless it is this record alone (too large, a bad header), sending
// ends: the broker is gone or the right is missing.
func (p *publishing) fail(number int, err error) {
	if p.first == nil {
		p.first = err
	}
	p.failed.add(number)
	var rejected *client.RejectedError
	if !errors.As(err, &rejected) {
		p.stop.Do(func() { close(p.noUse) })
	}
	if p.failed.count <= failuresShown {
		fmt.Fprintf(p.a.stderr, "waxwing: %s %d was not acknowledged: %v\n", p.o.unit(), number, err)
	}
}

// finish waits for the last acknowledgement and sums up. The exit code is that of the first failure.
func (p *publishing) finish(ctx context.Context) error {
	<-p.done
	if p.failed.count == 0 {
		if p.a.flags.output != "json" {
			p.a.say("%d acknowledged", p.acked)
		}
		return nil
	}
	code := exitCode(ctx, p.first)
	if p.failed.count+p.acked == 1 && p.unread == 0 {
		return &exitError{code, nil} // all is said
	}
	text := fmt.Sprintf("not acknowledged: %s %s (%d of %d)", p.o.unit(), &p.failed, p.failed.count, p.failed.count+p.acked)
	if p.unread > 0 {
		text += fmt.Sprintf("; not sent: %s %d and what follows", p.o.unit(), p.unread)
	}
	return &exitError{code, errors.New(text)}
}

// stream reports whether the input is lines, of which nobody knows how many will come.
func (o *pubOptions) stream() bool { return o.lines || o.jsonl }

// unit is what the records are numbered by.
func (o *pubOptions) unit() string {
	if o.stream() {
		return "line"
	}
	return "record"
}
