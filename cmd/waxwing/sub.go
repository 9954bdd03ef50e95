package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

// subOptions are the flags of sub.
type subOptions struct {
	topics    []string
	from      string
	count     int
	stopAtEnd bool
	wait      time.Duration
	headers   bool
	partition int
	hasPart   bool

	linearizable bool

	group string
	exec  string
}

func newSubCommand(a *app) *cobra.Command {
	var o subOptions
	var wait string
	c := &cobra.Command{
		Use:   "sub TOPIC... | sub -g GROUP",
		Short: "Read records: new ones, or those that are there",
		Long: `Read records of topics or patterns: '*' is one segment, '>' at the end one or more. Quote them.

--from latest (default), earliest, an OFFSET (one partition), -1h (a duration back), a time such as
2026-11-24T10:00:00Z, or tail:N (the last N records of each partition).

With --stop-at-end it ends when everything was shown that was there when it began; with --wait it ends when nothing
came for so long (exit code 6 if nothing came at all).

With -g it is a member of a consumer group, and acknowledges each record that it has printed. With --exec it runs a command for each
instead, with the body on its standard input and WAXWING_TOPIC, WAXWING_PARTITION, WAXWING_OFFSET, WAXWING_ATTEMPT and WAXWING_PUBLISHER in its
environment: exit code 0 acknowledges the record, any other gives it back.`,
		Example: `  waxwing sub 'orders.>' --from earliest --stop-at-end
  waxwing sub logs.app --from -1h -o jsonl
  waxwing sub orders.eu -n 1 --wait 5s`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, list []string) error {
			o.topics, o.hasPart = list, c.Flags().Changed("partition")
			if wait != "" {
				d, err := time.ParseDuration(wait)
				if err != nil || d <= 0 {
					return usage("--wait %q: give a duration above zero, such as 5s", wait)
				}
				o.wait = d
			}
			switch {
			case o.group == "" && len(list) == 0:
				return usage("sub: name topics, or a group with -g")
			case o.group == "" && o.exec != "":
				return usage("sub: --exec goes with -g")
			case o.group == "":
				return a.subscribe(c.Context(), &o)
			case len(list) > 0 || c.Flags().Changed("from") || o.stopAtEnd || o.hasPart || o.linearizable:
				return usage("sub -g: a group has topics and positions of its own; only -n, --wait, --exec, --headers and -o go with it")
			}
			return a.consume(c.Context(), &o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.group, "group", "g", "", "be a member of this consumer group")
	f.StringVar(&o.exec, "exec", "", "with -g: run this shell command for each record")
	f.StringVar(&o.from, "from", "latest", "where to begin")
	f.IntVarP(&o.count, "count", "n", 0, "stop after so many records")
	f.BoolVar(&o.stopAtEnd, "stop-at-end", false, "stop behind what is there now")
	f.StringVar(&wait, "wait", "", "stop when nothing came for so long")
	f.BoolVar(&o.headers, "headers", false, "show headers with -o pretty")
	linearizableFlag(c, &o.linearizable)
	f.IntVar(&o.partition, "partition", 0, "only this partition of the topics")
	return c
}

// parseFrom reads --from.
func parseFrom(s string, now time.Time) (client.Start, error) {
	switch s {
	case "", "latest":
		return client.Latest(), nil
	case "earliest":
		return client.Earliest(), nil
	}
	if tail, ok := strings.CutPrefix(s, "tail:"); ok {
		n, err := strconv.ParseInt(tail, 10, 64)
		if err != nil || n < 1 {
			return client.Start{}, usage("--from %q: tail:N wants a number of records", s)
		}
		return client.Tail(n), nil
	}
	if back, ok := strings.CutPrefix(s, "-"); ok {
		d, err := parseAge(back)
		if err != nil {
			return client.Start{}, usage("--from %q: %w", s, err)
		}
		return client.At(now.Add(-d)), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return client.AtOffset(n), nil
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return client.Start{}, usage("--from %q: use latest, earliest, an offset, -1h, tail:N or a time like 2026-11-24T10:00:00Z", s)
	}
	return client.At(at), nil
}

// options makes the client's options.
func (o *subOptions) options() (client.SubscribeOptions, error) {
	from, err := parseFrom(o.from, time.Now())
	if err != nil {
		return client.SubscribeOptions{}, err
	}
	s := client.SubscribeOptions{Topics: o.topics, From: from, StopAtEnd: o.stopAtEnd, Linearizable: o.linearizable}
	if o.hasPart {
		if o.partition < 0 || o.partition > math.MaxInt32 {
			return s, usage("--partition %d: give a number from 0", o.partition)
		}
		n := uint32(o.partition)
		s.Partition = &n
	}
	if o.count < 0 {
		return s, usage("-n %d: give a number above 0", o.count)
	}
	return s, nil
}

// errQuiet ends a subscription on which nothing came.
var errQuiet = errors.New("nothing came")

// subscribe prints records until it is told to stop.
func (a *app) subscribe(ctx context.Context, o *subOptions) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", "pretty", "raw", "jsonl", "json", "table"}, a.flags.output) {
		return usage("-o %q: sub prints pretty, raw or jsonl", a.flags.output)
	}
	return a.with(ctx, func(ctx context.Context, c *client.Client) error {
		options.OnEvent = a.tell
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		quiet := newQuiet(o.wait, func() { cancel(errQuiet) })
		defer quiet.stop()
		sub, err := c.Subscribe(ctx, options)
		if err != nil {
			return err
		}
		defer sub.Close()
		shown, err := a.print(ctx, sub, o, quiet)
		return ending(ctx, err, shown)
	})
}

// print shows messages and counts them.
func (a *app) print(ctx context.Context, sub *client.Subscription, o *subOptions, quiet *quiet) (int, error) {
	p := a.newPrinter(o.headers)
	defer p.flush()
	shown := 0
	for m, err := range sub.Messages() {
		if err != nil {
			return shown, err
		}
		quiet.reset()
		if err := p.print(m); err != nil {
			return shown, err
		}
		if shown++; o.count > 0 && shown == o.count {
			return shown, nil
		}
	}
	return shown, nil
}

// ending decides how a subscription's end is told.
func ending(ctx context.Context, err error, shown int) error {
	if !errors.Is(context.Cause(ctx), errQuiet) {
		return err
	}
	if shown > 0 {
		return nil
	}
	return &exitError{exitTimeout, errors.New("nothing came in time")}
}

// tell says what happened on the way, on the error stream.
func (a *app) tell(e client.Event) { a.say("note: %v", e) }

// quiet ends a wait when nothing came for a while. Without a limit it does nothing.
type quiet struct {
	limit time.Duration
	timer *time.Timer
}

func newQuiet(limit time.Duration, end func()) *quiet {
	if limit == 0 {
		return &quiet{}
	}
	return &quiet{limit, time.AfterFunc(limit, end)}
}

func (q *quiet) reset() {
	if q.timer != nil {
		q.timer.Reset(q.limit)
	}
}

func (q *quiet) stop() {
	if q.timer != nil {
		q.timer.Stop()
	}
}
