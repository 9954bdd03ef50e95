package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

func newPolicyReset(a *app) *cobra.Command {
	var dir, node, file string
	c := &cobra.Command{
		Use:   "reset --data-dir DIR --node-id ID -f FILE",
		Short: "Replace the policy in a stopped node's data: the way back in after a lock-out",
		Long: `Replace the policy in the data folder of a node that is stopped. It needs access to the folder and nothing
else, so whoever can write there can do it; the change is in the log with the name of this tool.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" || node == "" || file == "" {
				return usage("policy reset: give --data-dir, --node-id and -f")
			}
			doc, err := a.readDocument(file)
			if err != nil {
				return err
			}
			if _, err := compile(file, doc); err != nil {
				return err
			}
			if err := a.confirm("Replace the policy in " + dir + "?"); err != nil {
				return err
			}
			version, err := resetPolicy(c.Context(), dir, node, doc)
			if err != nil {
				return err
			}
			a.say("the policy in %s has version %d now", dir, version)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "data-dir", "", "data folder of the node (node.data_dir)")
	f.StringVar(&node, "node-id", "", "name of the node (node.id)")
	f.StringVarP(&file, "file", "f", "", "the new policy")
	return c
}

// resetPolicy opens the log of a stopped node, without any port, and proposes the change.
func resetPolicy(ctx context.Context, dir, node string, doc []byte) (version uint64, err error) {
	setUmask()
	var failed error
	fail := func(err error) { failed = err }
	lock, err := cluster.Lock(dir, node)
	if err != nil {
		return 0, err
	}
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage"), Fail: fail})
	if err != nil {
		return 0, errors.Join(err, lock.Close())
	}
	group, err := cluster.Open(ctx, cluster.Options{Dir: dir, NodeID: node, Lock: lock, Log: log, Fail: fail})
	if err != nil {
		return 0, errors.Join(err, log.Close())
	}
	background, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { _ = group.Run(background) })
	work.Go(func() { _ = log.Run(background) })
	defer func() {
		stopping, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		err = errors.Join(err, group.Shutdown(stopping))
		cancel()
		work.Wait()
		err = errors.Join(err, log.Close(), failed)
	}()
	if err := group.Ready(ctx); err != nil {
		return 0, err
	}
	r, _, err := group.Do(ctx, state.AppendSetPolicy(nil, &state.SetPolicy{Reset: true, Document: doc, By: "waxwing policy reset"}))
	if err == nil && !r.Status.Done() {
		err = fmt.Errorf("reset policy: %s", r.Text)
	}
	return r.Version, err
}
