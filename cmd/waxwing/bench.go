package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/bench/handshake"
)

// benchFlags are the flags of every scenario that are not options of package bench.
type benchFlags struct {
	against  string
	metrics  []string
	dir      string
	sizeDist string
	hgrm     string
	plot     string
	kex      []string
	reuse    []string
	profile  string
}

func newBenchCommand(a *app) *cobra.Command {
	c := group("bench", "Measure brokers, and state the conditions",
		a.scenario(bench.Pub, "Publish; everything is read back and verified afterwards"),
		a.scenario(bench.Sub, "Read what is retained"),
		a.scenario(bench.E2E, "Publish and receive at once"),
		a.scenario(bench.Latency, "Publish at a fixed rate; latency counts from when each record was due"),
		a.scenario(bench.Handshake, "Publish with a full handshake for each record, with a resumed one, and over one connection"),
		a.scenario(bench.Fanout, "Publish for many subscribers"),
		a.scenario(bench.Connections, "Open many connections at once, weigh idle ones, and kill a node that has some"),
		a.scenario(bench.Failover, "Kill the leader (of own brokers; of others, you do) while records are published"),
		newBenchAllCommand(a), newBenchCompareCommand(a),
	)
	c.Long = `Measure brokers through the public client, over mutual TLS, with every acknowledged record fsynced by a majority.

--against dev1 and dev3 start brokers of their own on this machine, and stop them; self is a broker in the process of the bench;
anything else is a context. Without --against it is the broker that -s, --context or the environment name, else dev3.

Every result begins with its conditions. Payloads carry number and checksum: a run in which a record was lost, doubled, out of order
or changed prints "NO RESULT" and ends with exit code 1. ^C gives the result so far, and exit code 130.`
	return c
}

// scenario is the command of one.
func (a *app) scenario(s bench.Scenario, short string) *cobra.Command {
	o := bench.Defaults(s)
	var f benchFlags
	c := &cobra.Command{Use: string(s), Short: short, Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return a.bench(c.Context(), &f, o)
	}}
	f.add(c.Flags())
	if s != bench.Sub {
		c.Flags().StringVar(&f.hgrm, "hgrm", "", "write latencies as FILE.hgrm; of several, one file each")
		c.Flags().StringVar(&f.plot, "plot", "", "draw latencies by percentile, FILE.svg or FILE.png")
	}
	addBenchOptions(c.Flags(), &o, &f)
	return c
}

func (f *benchFlags) add(p *pflag.FlagSet) {
	f.target(p)
	p.StringVar(&f.sizeDist, "size-dist", "fixed", "fixed, uniform:MIN-MAX, or exp: exponential around --size")
}

// target are the flags that say what is measured.
func (f *benchFlags) target(p *pflag.FlagSet) {
	p.StringVar(&f.against, "against", "", "dev1, dev3, self or a context (default: the broker that -s, --context or the environment name, else dev3)")
	p.StringSliceVar(&f.metrics, "metrics", nil, "HOST:PORT of a broker's HTTPS port, repeatable: what brokers of a context cost (needs the right observe)")
	p.StringVar(&f.profile, "profile", "", "folder for profiles (pprof) of the bench and of its own brokers: cpu, allocs, mutex, block")
	p.StringVar(&f.dir, "dir", "", "folder for the data of own brokers (default: that of temporary files)")
}

// keyExchanges are those of handshakes that are compared.
func (f *benchFlags) keyExchanges(p *pflag.FlagSet) {
	p.StringSliceVar(&f.kex, "kex", []string{"pq", "x25519"}, "key exchanges: pq (X25519MLKEM768), x25519, p256; repeatable")
}

func addBenchOptions(p *pflag.FlagSet, o *bench.Options, f *benchFlags) {
	p.Uint64Var(&o.Messages, "msgs", o.Messages, "records of the measured phase (sub: that are there to read; handshake: connections), instead of --duration")
	p.DurationVar(&o.Duration, "duration", o.Duration, "time of the measured phase")
	p.DurationVar(&o.Warmup, "warmup", o.Warmup, "time of the phase before")
	p.IntVar(&o.Size, "size", o.Size, "bytes of a payload")
	p.IntVar(&o.Conns, "conns", o.Conns, "connections that publish (sub: that read)")
	p.Uint64Var(&o.Seed, "seed", o.Seed, "of payloads and sizes")
	p.IntVar(&o.Runs, "runs", o.Runs, "how often; of several the median, the least and the most are shown")
	if o.Scenario != bench.Sub && o.Scenario != bench.Connections && o.Scenario != bench.Failover {
		p.Float64Var(&o.Rate, "rate", o.Rate, "records a second, all connections together; 0 = as fast as they are acknowledged")
	}
	if o.Scenario == bench.Handshake {
		f.keyExchanges(p)
		p.StringSliceVar(&f.reuse, "reuse", []string{"none", "ticket", "conn"}, "what one record leaves for the next: none, ticket, conn; repeatable")
		return
	}
	if o.Scenario == bench.Connections {
		return
	}
	if o.Scenario != bench.Sub {
		p.IntVar(&o.Window, "window", o.Window, "records of a connection that may be unacknowledged; 1 = one after the other")
	}
	p.IntVar(&o.BatchBytes, "batch", o.BatchBytes, "bytes of a batch at most (default: the client's, 256 KiB)")
	p.IntVar(&o.Topics, "topics", o.Topics, "topics")
	p.IntVar(&o.Partitions, "partitions", o.Partitions, "partitions of each topic")
	if o.Scenario == bench.E2E || o.Scenario == bench.Latency || o.Scenario == bench.Fanout {
		p.IntVar(&o.Members, "members", o.Members, "subscribers, each of which gets everything")
	}
}

// parse reads the flags that are words.
func (f *benchFlags) parse(o *bench.Options) (err error) {
	if o.SizeDist, err = bench.ParseSizeDist(f.sizeDist); err != nil {
		return usage("--size-dist: %w", err)
	}
	if o.Scenario != bench.Handshake {
		return nil
	}
	if o.Kex, err = f.parseKex(); err != nil {
		return err
	}
	o.Reuse = nil
	for _, text := range f.reuse {
		r, err := handshake.ParseReuse(text)
		if err != nil {
			return usage("--reuse: %w", err)
		}
		o.Reuse = append(o.Reuse, r)
	}
	return nil
}

func (f *benchFlags) parseKex() (list []handshake.Kex, err error) {
	for _, text := range f.kex {
		k, err := handshake.ParseKex(text)
		if err != nil {
			return nil, usage("--kex: %w", err)
		}
		list = append(list, k)
	}
	return list, nil
}

// bench runs a scenario and prints what came out.
func (a *app) bench(ctx context.Context, f *benchFlags, o bench.Options) (err error) {
	if err := f.parse(&o); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return usage("%w", err)
	}
	if ext := filepath.Ext(f.plot); f.plot != "" && ext != ".svg" && ext != ".png" {
		return usage("--plot %s: the name must end in .svg or .png", f.plot)
	}
	if err := a.checkOutput(); err != nil {
		return err
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
	o.Progress, o.Ask = a.progress(), func(text string) { a.say("%s", text) }
	r, err := bench.Run(ctx, t, o)
	if o.Progress != nil {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	if r != nil && len(r.Runs) > 0 {
		err = errors.Join(err, a.writeResult(r), a.writeFiles(f, r))
	}
	if err == nil && ctx.Err() != nil {
		err = &exitError{exitInterrupt, nil}
	}
	if fault, ok := errors.AsType[*bench.FaultError](err); ok {
		return &exitError{exitFailure, fault}
	}
	return err
}

// profileClient begins the profiles of the bench itself; a broker in the same process is in them.
func (f *benchFlags) profileClient() (*profiles, error) { return beginProfiles(f.profile, "client") }

// progress shows on a terminal, in one line, what is being done; nil = there is none.
func (a *app) progress() func(string) {
	if a.flags.quiet || !isTerminal(a.stderr) {
		return nil
	}
	started := time.Now()
	return func(text string) {
		fmt.Fprintf(a.stderr, "\r\x1b[K%4.0f s  %s", time.Since(started).Seconds(), text)
	}
}

// writeResult prints in the wanted form.
func (a *app) writeResult(r *bench.Result) error {
	switch a.flags.output {
	case "json":
		return r.WriteJSON(a.stdout)
	case "gobench":
		return r.WriteGobench(a.stdout)
	case "csv":
		return r.WriteCSV(a.stdout)
	}
	return r.WriteTable(a.stdout)
}

// checkOutput refuses what bench cannot print, before it measures.
func (a *app) checkOutput() error {
	switch a.flags.output {
	case "pretty", "raw", "jsonl":
		return usage("-o %s: bench has table, json, gobench, csv", a.flags.output)
	}
	return nil
}

// writeFiles writes histograms and a plot where they are wanted.
func (a *app) writeFiles(f *benchFlags, r *bench.Result) error {
	if f.hgrm != "" {
		files, err := r.WriteHistograms(f.hgrm)
		if err != nil {
			return fmt.Errorf("--hgrm: %w", err)
		}
		a.say("wrote %s", strings.Join(files, ", "))
	}
	if f.plot != "" {
		if err := r.WritePlot(f.plot); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
		a.say("wrote %s", f.plot)
	}
	return nil
}
