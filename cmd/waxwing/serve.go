package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

func newServeCommand(a *app) *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run a configured broker",
		Long: `Run a broker until it is told to stop (SIGTERM or ^C; a second one kills). SIGHUP reloads certificates, revocation
lists and the log level. Every key of the file has a flag and an environment variable: flag before environment
before file before default. See waxwing config init for all of them.

Exit codes 70 to 75 mean that the disk failed, hung, is full or is damaged, and the broker ended itself: the last line of
its log says which, and docs/cli.md has the table. 76: the node was removed from its cluster.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := f.load(a.env)
			if err != nil {
				return err
			}
			return a.serve(c.Context(), conf, func() string { return levelOf(&f, a.env) }, nil)
		},
	}
	f.add(c)
	return c
}

// levelOf reads the log level again; a bad file keeps the one before.
func levelOf(f *configFlags, env func(string) string) string {
	c, err := f.load(env)
	if err != nil {
		return ""
	}
	return c.LogLevel
}

// serve runs a node until ctx ends. started hears of it once it serves.
func (a *app) serve(ctx context.Context, c *config, relevel func() string, started func(*node) error) (err error) {
	setUmask()
	if err := noCore(); err != nil {
		return fmt.Errorf("switch off core files: %w", err)
	}
	saveMemory(a.env)
	p, err := beginProfiles(a.env(profileEnv), c.NodeID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	level := new(slog.LevelVar)
	setLevel(level, c.LogLevel)
	log := newLogger(a.stderr, c.LogFormat, level)
	fail := a.failStop(log)
	stdlog.SetFlags(0)
	stdlog.SetOutput(lastWord{log, fail})
	n, err := startNode(ctx, c, log, fail)
	if err != nil {
		return startFault(err)
	}
	go n.reloadOn(ctx, func() { setLevel(level, relevel()) })
	giveBack(ctx)
	r := n.ready()
	log.Info("serving", "version", version, "node", r.Node, "client", r.Client, "peer", r.Peer, "https", r.HTTPS, "policy", n.broker.Policy().Version())
	if started != nil {
		err = started(n)
	}
	if err == nil {
		err = launch.Announce(r, a.env)
	}
	if err != nil {
		return errors.Join(err, n.stop())
	}
	select {
	case <-ctx.Done():
	case <-n.group.Removed():
		err = startFault(cluster.ErrRemoved)
	}
	log.Info("stopping")
	if stopErr := n.stop(); stopErr != nil && err == nil {
		return &exitError{exitFailure, fmt.Errorf("stop: %w", stopErr)}
	}
	return err
}

func setLevel(level *slog.LevelVar, text string) {
	if l, err := parseLevel(text); err == nil {
		level.Set(l)
	}
}
