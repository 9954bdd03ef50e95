package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/waxwing-mq/waxwing/client"
)

// consume is a member of a group until it is told to stop.
func (a *app) consume(ctx context.Context, o *subOptions) error {
	return a.with(ctx, func(ctx context.Context, c *client.Client) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		quiet := newQuiet(o.wait, func() { cancel(errQuiet) })
		defer quiet.stop()
		k, err := c.OpenConsumer(ctx, o.group, client.ConsumeOptions{})
		if err != nil {
			return err
		}
		shown, err := a.printDeliveries(ctx, k, o, quiet)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return errors.Join(ending(ctx, err, shown), k.Close())
	})
}

// printDeliveries handles records one after the other.
func (a *app) printDeliveries(ctx context.Context, k *client.Consumer, o *subOptions, quiet *quiet) (int, error) {
	p := a.newPrinter(o.headers)
	defer p.flush()
	shown := 0
	for d, err := range k.Deliveries(ctx) {
		if err != nil {
			return shown, err
		}
		quiet.reset()
		if o.exec != "" {
			a.run(ctx, o.exec, d)
		} else if err := p.print(&d.Message); err != nil {
			d.Nack()
			return shown, err
		} else {
			d.Ack()
		}
		if shown++; o.count > 0 && shown == o.count {
			return shown, nil
		}
	}
	return shown, nil
}

// run runs the command for a record and settles it by the exit code.
func (a *app) run(ctx context.Context, command string, d *client.Delivery) {
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(d.Body), a.stdout, a.stderr
	c.Env = append(os.Environ(), "WAXWING_TOPIC="+d.Topic, "WAXWING_PARTITION="+strconv.FormatUint(uint64(d.Partition), 10), "WAXWING_OFFSET="+strconv.FormatInt(d.Offset, 10),
		"WAXWING_ATTEMPT="+strconv.FormatUint(d.Attempt, 10), "WAXWING_PUBLISHER="+d.Publisher)
	if err := c.Run(); err != nil {
		a.say("record %d of %s: %v", d.Offset, d.Topic, fmt.Errorf("%s: %w", command, err))
		d.Nack()
		return
	}
	d.Ack()
}
