// Command billing is an example service: it reads orders back, checks every byte, and
// prints a report as JSON. See package collect for what it does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/waxwing-mq/waxwing/examples/billing/collect"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "billing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	cfg, err := collect.ParseConfig(args, getenv)
	if err != nil {
		return err
	}
	report, err := collect.Run(ctx, cfg)
	if encodeErr := json.NewEncoder(stdout).Encode(report); err == nil {
		err = encodeErr
	}
	return err
}
