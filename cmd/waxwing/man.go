package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes man pages, for packagers.
func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "man DIR", Short: "Write the man pages to a folder", Hidden: true, Args: args(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, list []string) error {
		if err := os.MkdirAll(list[0], 0o755); err != nil {
			return err
		}
		return doc.GenManTree(c.Root(), &doc.GenManHeader{Title: "WAXWING", Section: "1", Source: "waxwing " + version}, list[0])
	}}
}
