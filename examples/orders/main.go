// Command orders is an example service: it publishes orders and prints a report as
// JSON. See package publish for what it does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/waxwing-mq/waxwing/examples/orders/publish"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	cfg, err := publish.ParseConfig(args, getenv)
	if err != nil {
		return err
	}
	report, err := publish.Run(ctx, cfg)
	if encodeErr := json.NewEncoder(stdout).Encode(report); err == nil {
		err = encodeErr
	}
	return err
}
