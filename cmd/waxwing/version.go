package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
		v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					v["commit"] = s.Value
				}
			}
		}
		return a.show(v, func() *table {
			t := &table{}
			for _, k := range []string{"version", "commit", "go", "platform"} {
				if v[k] != "" {
					t.add(k, v[k])
				}
			}
			return t
		})
	}}
}
