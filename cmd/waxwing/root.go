package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity"
)

// newRoot assembles the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "waxwing",
		Short: "A message broker in which the certificate is the account",
		Long: `Waxwing is a message broker in which the certificate is the account: services publish
and subscribe over mutual TLS, and the identity in the certificate decides what they may do.

  waxwing demo          see it work, step by step, on a real broker
  waxwing dev           a broker for your machine, with its own certificates
  waxwing serve -c F    a configured broker

Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 not found, 4 denied, 5 no connection or TLS refused,
6 time ran out or nothing received, 7 no quorum, 70 to 76 a broker ended itself, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := identity.CheckGODEBUG(a.env("GODEBUG")); err != nil {
				return usage("%w", err)
			}
			if err := a.checkFlags(); err != nil {
				return err
			}
			if slices.Contains(benchOutputs, a.flags.output) && !strings.HasPrefix(c.CommandPath(), "waxwing bench") {
				return usage("-o %s: only bench has that", a.flags.output)
			}
			return nil
		},
		Args: cobra.ArbitraryArgs,
		RunE: helpOrUnknown,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	a.addFlags(root)
	root.AddGroup(&cobra.Group{ID: "use", Title: "Publish and subscribe:"}, &cobra.Group{ID: "admin", Title: "Topics and rights:"},
		&cobra.Group{ID: "node", Title: "Run a broker:"}, &cobra.Group{ID: "cert", Title: "Certificates:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("use", newPubCommand(a), newSubCommand(a), newWhoAmICommand(a), newContextCommand(a))
	add("admin", newTopicCommand(a), newGroupCommand(a), newPolicyCommand(a), newRevokeCommand(a), newSnapshotCommand(a))
	add("node", newDemoCommand(a), newDevCommand(a), newServeCommand(a), newConfigCommand(a), newHealthcheckCommand(a), newStorageCommand(a), newClusterCommand(a), newBenchCommand(a))
	add("cert", newPKICommand(a), newCertCommand(a))
	root.AddCommand(newVersionCommand(a), newManCommand(a))
	root.AddCommand(newDemoServiceCommands(a)...)
	root.AddCommand(newFloorCommand(a))
	return root
}

// addFlags declares the global flags.
func (a *app) addFlags(root *cobra.Command) {
	f, p := &a.flags, root.PersistentFlags()
	p.StringVar(&f.context, "context", "", "context to use; see waxwing context ls")
	p.StringSliceVarP(&f.servers, "server", "s", nil, "broker address HOST:PORT, repeatable")
	p.StringVar(&f.cert, "cert", "", "client certificate, PEM file")
	p.StringVar(&f.key, "key", "", "private key, PEM file")
	p.StringVar(&f.ca, "ca", "", "CA certificates, PEM file")
	p.StringVar(&f.serverName, "server-name", "", "host name that the broker's certificate must have")
	p.StringVarP(&f.output, "output", "o", "", "table, json; sub: pretty, raw, jsonl; bench: gobench, csv")
	p.StringVar(&f.timeout, "timeout", "", "time for one request, such as 5s")
	p.StringVar(&f.color, "color", "auto", "auto, always or never")
	p.BoolVarP(&f.quiet, "quiet", "q", false, "say only what was asked for")
	p.BoolVarP(&f.verbose, "verbose", "v", false, "say what happens on the way")
	p.BoolVar(&f.noInput, "no-input", false, "never ask; fail instead")
	p.BoolVarP(&f.yes, "yes", "y", false, "answer every question with yes")
}

// outputs are the values of -o.
var outputs = []string{"", "table", "json", "pretty", "raw", "jsonl", "gobench", "csv"}

// benchOutputs are those that only bench has.
var benchOutputs = []string{"gobench", "csv"}

// checkFlags refuses global flags that make no sense.
func (a *app) checkFlags() error {
	f := &a.flags
	if !slices.Contains(outputs, f.output) {
		return usage("-o %q: use one of %s", f.output, strings.Join(outputs[1:], ", "))
	}
	if !slices.Contains([]string{"auto", "always", "never"}, f.color) {
		return usage("--color %q: use auto, always or never", f.color)
	}
	if _, err := a.timeout(); err != nil {
		return err
	}
	return nil
}

// group is a command that only has sub-commands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: helpOrUnknown}
	c.AddCommand(commands...)
	return c
}

// helpOrUnknown is what a command without work of its own does.
func helpOrUnknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + near[0] + "?"
	}
	return usage("%s has no command %q%s; see %s --help", c.CommandPath(), args[0], hint, c.CommandPath())
}

// args wraps cobra's check of arguments so that a wrong number is a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, list []string) error {
		if err := check(c, list); err != nil {
			return usage("%s: %w; usage: %s", c.CommandPath(), err, c.UseLine())
		}
		return nil
	}
}

// usage is an error of the command line.
func usage(format string, values ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, values...)}
}

var errNotConfirmed = errors.New("not confirmed")
