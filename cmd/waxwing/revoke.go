package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

func newRevokeCommand(a *app) *cobra.Command {
	return group("revoke", "End the rights of an identity, a key or a certificate, at once", newRevokeAdd(a), newRevokeList(a), newRevokeRemove(a))
}

// revokeFlags name what is revoked.
type revokeFlags struct{ entry client.Revocation }

func (f *revokeFlags) add(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.entry.Identity, "identity", "", "a principal, such as spiffe://example.org/client/orders")
	p.StringVar(&f.entry.SPKI, "spki", "", "SHA-256 of a public key, hexadecimal (waxwing cert inspect shows it)")
	p.StringVar(&f.entry.Serial, "serial", "", "serial number of a certificate, hexadecimal; with --issuer")
	p.StringVar(&f.entry.Issuer, "issuer", "", "issuer's name of that certificate, as waxwing cert inspect shows it")
}

// revocation checks that exactly one thing is named.
func (f *revokeFlags) revocation() (client.Revocation, error) {
	e := f.entry
	e.SPKI = strings.ToLower(strings.ReplaceAll(e.SPKI, ":", ""))
	e.Serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(e.Serial, ":", "")), "0")
	named := 0
	for _, s := range []string{e.Identity, e.SPKI, e.Serial} {
		if s != "" {
			named++
		}
	}
	if named != 1 || (e.Serial == "") != (e.Issuer == "") {
		return e, usage("revoke: give exactly one of --identity, --spki, or --serial with --issuer")
	}
	return e, nil
}

func newRevokeAdd(a *app) *cobra.Command {
	var f revokeFlags
	var force bool
	c := &cobra.Command{Use: "add", Short: "Revoke; live connections end within a second", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		e, err := f.revocation()
		if err != nil {
			return err
		}
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return c.Revocations().Add(ctx, e, force) })
	}}
	f.add(c)
	c.Flags().StringVar(&f.entry.Reason, "reason", "", "why, for whoever reads the list")
	c.Flags().BoolVar(&force, "force", false, "even if it is yourself")
	return c
}

func newRevokeRemove(a *app) *cobra.Command {
	var f revokeFlags
	c := &cobra.Command{Use: "rm", Short: "Take an entry off the list", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		e, err := f.revocation()
		if err != nil {
			return err
		}
		if err := a.confirm("Give back the rights of " + e.Identity + e.SPKI + e.Serial + "?"); err != nil {
			return err
		}
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return removeRevocation(ctx, c, e) })
	}}
	f.add(c)
	return c
}

// removeRevocation takes an entry off that must be there: a slip of the pen must not look like a success.
func removeRevocation(ctx context.Context, c *client.Client, e client.Revocation) error {
	list, err := c.Revocations().List(ctx)
	if err != nil {
		return err
	}
	there := func(r client.Revocation) bool {
		return r.Identity == e.Identity && r.SPKI == e.SPKI && r.Serial == e.Serial && r.Issuer == e.Issuer
	}
	if !slices.ContainsFunc(list, there) {
		return &exitError{exitNotFound, errors.New("that is not on the list; see: waxwing revoke ls")}
	}
	return c.Revocations().Remove(ctx, e)
}

// revocationJSON is an entry as -o json prints it.
type revocationJSON struct {
	Identity string `json:"identity,omitempty"`
	SPKI     string `json:"spki_sha256,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	Reason   string `json:"reason"`
	By       string `json:"by"`
	At       string `json:"at"`
}

func newRevokeList(a *app) *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List what is revoked", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
			list, err := c.Revocations().List(ctx)
			if err != nil {
				return err
			}
			out := []revocationJSON{}
			for _, r := range list {
				out = append(out, revocationJSON{r.Identity, r.SPKI, r.Serial, r.Issuer, r.Reason, r.By, stamp(r.At)})
			}
			return a.show(out, func() *table {
				t := &table{head: []string{"WHAT", "VALUE", "ISSUER", "REASON", "BY", "AT"}}
				for _, r := range out {
					what, val := "identity", r.Identity
					if r.SPKI != "" {
						what, val = "key", r.SPKI
					} else if r.Serial != "" {
						what, val = "serial", r.Serial
					}
					t.add(what, val, orDash(r.Issuer), orDash(r.Reason), r.By, r.At)
				}
				return t
			})
		})
	}}
}
