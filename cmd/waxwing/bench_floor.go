package main

import (
	"context"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/bench/handshake"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

// floorCommand is the hidden command by which a bench runs a server of crypto/tls alone, as a process of its own.
const floorCommand = "bench-floor"

func newFloorCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: floorCommand + " CERT KEY CA", Hidden: true, Args: args(cobra.ExactArgs(3)), RunE: func(c *cobra.Command, list []string) error {
		saveMemory(a.env) // as a broker does
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if err := launch.Announce(launch.Ready{PID: os.Getpid(), Client: l.Addr().String()}, a.env); err != nil {
			return err
		}
		return handshake.ServeFloor(c.Context(), l, list[0], list[1], list[2])
	}}
}

// benchFloor starts one with the certificate of a broker.
func (a *app) benchFloor(files *devFiles, node string) func(context.Context) (string, func(context.Context) (bench.Usage, error), func() error, error) {
	return func(ctx context.Context) (string, func(context.Context) (bench.Usage, error), func() error, error) {
		own := files.brokers[node]
		p, err := launch.Start(ctx, launch.Options{Args: []string{floorCommand, own.cert, own.key, files.roots}, OwnGroup: true})
		if err != nil {
			return "", nil, nil, err
		}
		usage := func(context.Context) (bench.Usage, error) { return processUsage(p.PID()) }
		return p.Ready.Client, usage, func() error { p.Kill(); return nil }, nil
	}
}
