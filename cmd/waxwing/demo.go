package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/examples/billing/collect"
	"github.com/waxwing-mq/waxwing/examples/orders/publish"
)

func newDemoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the main job, step by step, on a real broker; leaves nothing behind",
		Long: `Make a CA and certificates, start a broker, publish, read back, refuse who must be refused, resume a TLS session, kill the
broker and find every acknowledged record again. Each step is checked; the exit code is 0 only if all are true.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.demo(c.Context(), nil) },
	}
}

// demoTimeout bounds the whole demo.
const demoTimeout = 5 * time.Minute

// demoFaults are planted by the test, by step, to see the demo fail: each runs just before the
// check of its step.
type demoFaults map[string]func(*demo)

// demo runs the steps in a temporary folder.
func (a *app) demo(ctx context.Context, faults demoFaults) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, errors.New("the demo took longer than "+demoTimeout.String()))
	defer cancel()
	setUmask()
	dir, err := os.MkdirTemp("", "waxwing-demo-")
	if err != nil {
		return err
	}
	d := &demo{a: a, dir: dir, faults: faults}
	defer func() {
		d.stopBroker()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	start := time.Now()
	for i, s := range demoSteps {
		fmt.Fprintf(a.stdout, "\n%d. %s\n", i+1, s.title)
		if err := s.run(d, ctx); err != nil {
			return fmt.Errorf("step %d (%s) is not as it should be: %w", i+1, s.name, err)
		}
	}
	return d.summary(time.Since(start))
}

// summary is the table at the end.
func (d *demo) summary(took time.Duration) error {
	fmt.Fprintf(d.a.stdout, "\nWhat was shown, in %.1f s:\n", took.Seconds())
	for _, r := range d.shown {
		fmt.Fprintf(d.a.stdout, "  %-34s %s\n", r[0], r[1])
	}
	_, err := fmt.Fprintf(d.a.stdout, "\nEvery step was checked and true. Next: waxwing dev\n")
	return err
}

// tell says something to the reader of the demo.
func (d *demo) tell(format string, values ...any) {
	fmt.Fprintf(d.a.stdout, "   "+format+"\n", values...)
}

// show adds a line to the table at the end.
func (d *demo) show(what, format string, values ...any) {
	d.shown = append(d.shown, [2]string{what, fmt.Sprintf(format, values...)})
}

// file is a path in the demo's folder.
func (d *demo) file(name string) string { return filepath.Join(d.dir, name) }

// plant runs the fault of a step, in tests.
func (d *demo) plant(step string) {
	if f := d.faults[step]; f != nil {
		f(d)
	}
}

// Names of the hidden commands by which demo runs the example services as processes.
const (
	ordersCommand  = "demo-orders"
	billingCommand = "demo-billing"
)

// newDemoServiceCommands are the example services, with their own flags and report.
func newDemoServiceCommands(a *app) []*cobra.Command {
	service := func(name string, run func(ctx context.Context, list []string) (any, error)) *cobra.Command {
		return &cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true, RunE: func(c *cobra.Command, list []string) error {
			report, err := run(c.Context(), list)
			return errors.Join(err, json.NewEncoder(a.stdout).Encode(report))
		}}
	}
	orders := service(ordersCommand, func(ctx context.Context, list []string) (any, error) {
		cfg, err := publish.ParseConfig(list, a.env)
		if err != nil {
			return nil, err
		}
		return publish.Run(ctx, cfg)
	})
	billing := service(billingCommand, func(ctx context.Context, list []string) (any, error) {
		cfg, err := collect.ParseConfig(list, a.env)
		if err != nil {
			return nil, err
		}
		return collect.Run(ctx, cfg)
	})
	return []*cobra.Command{orders, billing}
}
