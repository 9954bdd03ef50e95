package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/policy"
)

func newPolicyCommand(a *app) *cobra.Command {
	return group("policy", "Say who may do what, and ask why", newPolicyCheck(a), newPolicyExplain(a), newPolicyApply(a), newPolicyShow(a), newPolicyDiff(a), newPolicyReset(a))
}

// documentBytesRead is more than a policy may have: Compile says what is too much.
const documentBytesRead = 2 * policy.DocumentBytesMax

// readDocument reads a policy document; "-" is standard input.
func (a *app) readDocument(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, documentBytesRead))
	}
	doc, err := readBounded(name, documentBytesRead)
	if err != nil {
		return nil, usage("policy: %w", err)
	}
	return doc, nil
}

// parsePolicy reads a document; every fault is named with its line.
func parsePolicy(name string, doc []byte) (*policy.Policy, error) {
	p, err := policy.Compile(doc, 0)
	var faults policy.Errors
	if !errors.As(err, &faults) {
		return p, err
	}
	var text strings.Builder
	for _, f := range faults {
		text.WriteString("\n" + (&configFault{origin{name, f.Line}, f.Text}).Error())
	}
	return nil, usage("the policy has %s:%s", count(len(faults), "fault"), text.String())
}

// compile reads a document and runs its tests.
func compile(name string, doc []byte) (*policy.Policy, error) {
	p, err := parsePolicy(name, doc)
	if err != nil {
		return nil, err
	}
	failures := p.Test()
	if len(failures) == 0 {
		return p, nil
	}
	var text strings.Builder
	for _, f := range failures {
		text.WriteString("\n" + name + ": " + f.String())
	}
	return nil, usage("%s of the policy failed:%s", count(len(failures), "test"), text.String())
}

func newPolicyCheck(a *app) *cobra.Command {
	return &cobra.Command{Use: "check FILE", Short: "Check a policy document and run its tests, without a broker", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		doc, err := a.readDocument(list[0])
		if err != nil {
			return err
		}
		if _, err := compile(list[0], doc); err != nil {
			return err
		}
		a.say("%s: good, its tests pass", list[0])
		return nil
	}}
}

// decisionJSON is the answer of explain.
type decisionJSON struct {
	Allow   bool   `json:"allow"`
	Rule    string `json:"rule"`
	Line    uint64 `json:"line"`
	Version uint64 `json:"version"`
	Reason  string `json:"reason"`
}

func newPolicyExplain(a *app) *cobra.Command {
	var identity, action, topic, groupName, file string
	c := &cobra.Command{Use: "explain", Short: "Ask whether an identity may do something, and which rule says so", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		if action == "" {
			return usage("policy explain: give --action (publish, subscribe, consume, manage, observe or admin)")
		}
		if _, err := policy.ParseVerb(action); err != nil {
			return usage("policy explain: --action: %w", err)
		}
		resource := topic
		if groupName != "" {
			resource = "group:" + groupName
		}
		d, err := a.explain(c.Context(), identity, action, resource, file)
		if err != nil {
			return err
		}
		err = a.show(d, func() *table { return decisionTable(d) })
		if err == nil && !d.Allow {
			return &exitError{exitDenied, nil}
		}
		return err
	}}
	f := c.Flags()
	f.StringVar(&identity, "identity", "", "whose right (default: yours; others need admin)")
	f.StringVar(&action, "action", "", "publish, subscribe, consume, manage, observe or admin")
	f.StringVar(&topic, "topic", "", "topic or pattern")
	f.StringVar(&groupName, "group", "", "consumer group")
	f.StringVarP(&file, "file", "f", "", "ask this document, without a broker")
	return c
}

func decisionTable(d *decisionJSON) *table {
	t := &table{}
	word := "denied"
	if d.Allow {
		word = "allowed"
	}
	t.add("decision", word)
	t.add("rule", orDash(d.Rule))
	t.add("line", orDashInt(d.Line))
	t.add("version", orDashInt(d.Version))
	t.add("reason", d.Reason)
	return t
}

// explain asks a document or the broker.
func (a *app) explain(ctx context.Context, identity, action, resource, file string) (*decisionJSON, error) {
	if file != "" {
		return a.explainOffline(identity, action, resource, file)
	}
	var out *decisionJSON
	err := a.with(ctx, func(ctx context.Context, c *client.Client) error {
		d, err := c.Policy().Explain(ctx, identity, action, resource)
		out = &decisionJSON{d.Allow, d.Rule, d.Line, d.Version, d.Reason}
		return err
	})
	return out, err
}

func (a *app) explainOffline(identity, action, resource, file string) (*decisionJSON, error) {
	if identity == "" {
		return nil, usage("policy explain -f: give --identity")
	}
	verb, err := policy.ParseVerb(action)
	if err != nil {
		return nil, usage("policy explain: %w", err)
	}
	doc, err := a.readDocument(file)
	if err != nil {
		return nil, err
	}
	p, err := parsePolicy(file, doc)
	if err != nil {
		return nil, err
	}
	d, err := p.For(identity).Explain(verb, resource)
	if err != nil {
		return nil, usage("policy explain: %w", err)
	}
	return &decisionJSON{d.Allow, d.Rule, uint64(d.Line), d.Version, d.Reason}, nil
}

// policyJSON is the policy as -o json prints it.
type policyJSON struct {
	Version   uint64 `json:"version"`
	ChangedBy string `json:"changed_by"`
	Changed   string `json:"changed"`
	Document  string `json:"document"`
}

func newPolicyApply(a *app) *cobra.Command {
	var file string
	var expect int64
	var force bool
	c := &cobra.Command{Use: "apply -f FILE", Short: "Replace the policy; its tests must pass", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		if file == "" {
			return usage("policy apply: give -f FILE")
		}
		doc, err := a.readDocument(file)
		if err != nil {
			return err
		}
		if _, err := compile(file, doc); err != nil {
			return err
		}
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
			version := uint64(expect)
			if expect < 0 {
				now, err := c.Policy().Get(ctx)
				if err != nil {
					return err
				}
				version = now.Version
			}
			d, err := c.Policy().Apply(ctx, client.PolicyChange{Document: doc, Expect: version, Force: force})
			if err != nil {
				return err
			}
			return a.show(policyOf(&d), func() *table {
				t := &table{}
				t.add("version", strconv.FormatUint(d.Version, 10))
				return t
			})
		})
	}}
	c.Flags().StringVarP(&file, "file", "f", "", "the document, - for standard input")
	c.Flags().Int64Var(&expect, "expect", -1, "the version that it replaces (default: the one in force now)")
	c.Flags().BoolVar(&force, "force", false, "even if it locks you or the last admin out")
	return c
}

func policyOf(d *client.PolicyDocument) *policyJSON {
	return &policyJSON{d.Version, d.ChangedBy, stamp(d.Changed), string(d.Document)}
}

func newPolicyShow(a *app) *cobra.Command {
	var linearizable bool
	c := &cobra.Command{Use: "show", Short: "Show the policy in force", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
			p := c.Policy()
			if linearizable {
				p = p.Linearizable()
			}
			d, err := p.Get(ctx)
			if err != nil {
				return err
			}
			if a.flags.output == "json" {
				return a.json(policyOf(&d))
			}
			a.say("# version %d, by %s, %s", d.Version, printable(d.ChangedBy), stamp(d.Changed))
			_, err = a.stdout.Write(d.Document)
			return err
		})
	}}
	linearizableFlag(c, &linearizable)
	return c
}

func newPolicyDiff(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{Use: "diff -f FILE", Short: "Compare a document with the policy in force (exit code 1 if they differ)", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		if file == "" {
			return usage("policy diff: give -f FILE")
		}
		doc, err := a.readDocument(file)
		if err != nil {
			return err
		}
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
			d, err := c.Policy().Get(ctx)
			if err != nil {
				return err
			}
			return a.showDiff(&diffJSON{d.Version, file, diffLines(string(d.Document), string(doc))})
		})
	}}
	c.Flags().StringVarP(&file, "file", "f", "", "the document, - for standard input")
	return c
}

// diffJSON is the answer of policy diff.
type diffJSON struct {
	Version uint64   `json:"version"` // in force
	File    string   `json:"file"`
	Lines   []string `json:"lines"` // "-" only in force, "+" only in the file; none if they are equal
}

func (a *app) showDiff(d *diffJSON) error {
	var err error
	switch {
	case a.flags.output == "json":
		err = a.json(d)
	case len(d.Lines) > 0:
		_, err = fmt.Fprintf(a.stdout, "--- version %d\n+++ %s\n%s\n", d.Version, d.File, strings.Join(d.Lines, "\n"))
	}
	if err == nil && len(d.Lines) > 0 {
		return &exitError{exitFailure, nil}
	}
	return err
}
