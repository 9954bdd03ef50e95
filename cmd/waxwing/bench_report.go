package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/bench"
)

func newBenchAllCommand(a *app) *cobra.Command {
	base := bench.Defaults(bench.Handshake)
	base.Duration, base.Warmup, base.Runs, base.Conns = 3*time.Second, 500*time.Millisecond, 3, bench.Defaults(bench.Connections).Conns
	var f benchFlags
	var report string
	var only []string
	c := &cobra.Command{Use: "all --report DIR", Short: "Measure everything, and write a page with plots and the raw results", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		if report == "" {
			return usage("bench all: give --report DIR")
		}
		return a.benchAll(c.Context(), &f, base, report, only)
	}}
	f.target(c.Flags())
	p := c.Flags()
	p.StringVar(&report, "report", "", "folder for report.html and raw.json; it is made if it is missing")
	p.DurationVar(&base.Duration, "duration", base.Duration, "time of each measured phase")
	p.DurationVar(&base.Warmup, "warmup", base.Warmup, "time of each phase before")
	p.IntVar(&base.Runs, "runs", base.Runs, "how often everything")
	p.Uint64Var(&base.Seed, "seed", base.Seed, "of payloads and sizes")
	p.Uint64Var(&base.Messages, "msgs", 0, "records that are there to read, for sub (default: 200000, or 128 MiB if that is less)")
	p.IntVar(&base.Conns, "conns", base.Conns, "connections that connections opens")
	f.keyExchanges(p)
	p.StringSliceVar(&only, "only", nil, "scenarios, repeatable (default: every one)")
	return c
}

// benchPlan is what a report measures; only names scenarios, none = all.
func benchPlan(base bench.Options, nodes int, only []string) ([]bench.Options, error) {
	plan := bench.Plan(base, nodes)
	if len(only) == 0 {
		return plan, nil
	}
	known := map[string]bool{}
	for _, o := range plan {
		known[string(o.Scenario)] = true
	}
	for _, s := range only {
		if !known[s] {
			return nil, usage("--only %s: a report of %d nodes has %s", s, nodes, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return slices.DeleteFunc(plan, func(o bench.Options) bool { return !slices.Contains(only, string(o.Scenario)) }), nil
}

// benchAll measures everything on one set of brokers. What was measured until an error or ^C is written all the same.
func (a *app) benchAll(ctx context.Context, f *benchFlags, base bench.Options, report string, only []string) (err error) {
	if base.Kex, err = f.parseKex(); err != nil {
		return err
	}
	if err := base.Check(); err != nil {
		return usage("%w", err)
	}
	if _, err := benchPlan(base, 3, only); err != nil { // before anything is started
		return err
	}
	if err := os.MkdirAll(report, 0o755); err != nil {
		return usage("--report: %w", err)
	}
	t, stop, err := a.benchTarget(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	p, err := f.profileClient()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	base.Progress, base.Ask = a.progress(), func(text string) { a.say("%s", text) }
	plan, err := benchPlan(base, len(t.Nodes), only)
	if err != nil {
		return err
	}
	var results []*bench.Result
	for i, o := range plan {
		if ctx.Err() != nil {
			break
		}
		a.say("%d of %d: %s, %d B", i+1, len(plan), o.Scenario, o.Size)
		r, runErr := bench.Run(ctx, t, o)
		if r != nil && len(r.Runs) > 0 {
			results = append(results, r)
		}
		if runErr != nil && ctx.Err() == nil {
			err = fmt.Errorf("%s: %w", o.Scenario, runErr)
			break
		}
	}
	if len(results) > 0 {
		err = errors.Join(err, bench.WriteReport(report, results))
		a.say("wrote %s and %s", filepath.Join(report, bench.ReportPage), filepath.Join(report, bench.ReportRaw))
	}
	if err == nil && ctx.Err() != nil {
		err = &exitError{exitInterrupt, nil}
	}
	return err
}

func newBenchCompareCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "compare A.json B.json", Short: "Compare two results of -o json, or two raw.json of reports, as ratios with their spread", Args: args(cobra.ExactArgs(2)), RunE: func(_ *cobra.Command, list []string) error {
		var both [2][]*bench.Result
		for i, file := range list {
			var err error
			if both[i], err = bench.ReadResults(file); err != nil {
				return usage("%w", err)
			}
		}
		figures := bench.Compare(both[0], both[1])
		if len(figures) == 0 {
			return usage("%s and %s have no scenario with the same payload in common", list[0], list[1])
		}
		if a.flags.output == "json" {
			return a.json(figures)
		}
		return bench.WriteComparison(a.stdout, both[0], both[1], figures)
	}}
}
