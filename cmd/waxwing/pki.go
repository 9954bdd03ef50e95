package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity/ca"
)

func newPKICommand(a *app) *cobra.Command {
	var trustDomain string
	var ifMissing bool
	c := &cobra.Command{Use: "init DIR", Short: "Make a root and an issuing CA in a folder", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		if trustDomain == "" {
			return usage("pki init: give --trust-domain, such as example.org")
		}
		setUmask()
		if ifMissing {
			if _, err := ca.Open(list[0]); err == nil {
				return nil
			}
		}
		if _, err := ca.Init(list[0], trustDomain); err != nil {
			return err
		}
		a.say("CA for %s in %s: give %s to brokers and clients, keep %s offline", trustDomain, list[0], filepath.Join(list[0], ca.RootsFile), filepath.Join(list[0], ca.RootKeyFile))
		return nil
	}}
	c.Flags().StringVar(&trustDomain, "trust-domain", "", "SPIFFE trust domain of all identities")
	c.Flags().BoolVar(&ifMissing, "if-missing", false, "an existing CA is fine")
	return group("pki", "A small certificate authority, for people who have none", c)
}
