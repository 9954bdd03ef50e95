// Package clustertest starts whole groups for tests: real raft, real raft-wal, real Badger.
package clustertest

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

// Patience is how long a write of the raft log may take where the disk is real, busy, and not what is tested.
const Patience = 5 * time.Minute

// Node is a running group with its storage.
type Node struct {
	Group *cluster.Group
	Log   *storage.Log

	stop func() error
}

// Start starts a node on a data folder, waits until it is ready, and stops it when the
// test ends. A fail-stop fails the test.
func Start(t testing.TB, dir string) *Node {
	t.Helper()
	return StartWith(t, dir, 0)
}

// Open starts a node and waits until it is ready.
func Open(ctx context.Context, dir string, fail func(error)) (*Node, error) {
	return OpenWith(ctx, dir, fail, 0)
}

// StartWith is Start with segments of another size.
func StartWith(t testing.TB, dir string, segmentBytes int64) *Node {
	t.Helper()
	n, err := OpenWith(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) }, segmentBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("stop node: %v", err)
		}
	})
	return n
}

// OpenWith is Open with segments of another size; 0 = the default.
func OpenWith(ctx context.Context, dir string, fail func(error), segmentBytes int64) (*Node, error) {
	guard := storage.GuardMin(cmp.Or(segmentBytes, storage.SegmentBytesDefault)) // a tenth of the disk may be more than it has
	return OpenOptions(ctx, storage.Options{SegmentBytes: segmentBytes, GuardBytes: guard, Fail: fail}, cluster.Options{Dir: dir, SegmentBytes: segmentBytes, StallReject: Patience, StallEnd: Patience, Fail: fail})
}

// OpenOptions is Open with other options: s of the storage, o of the group, whose Dir is the node's folder. The node is n1
// unless they say otherwise.
func OpenOptions(ctx context.Context, s storage.Options, o cluster.Options) (*Node, error) {
	o.NodeID = cmp.Or(o.NodeID, "n1")
	lock, err := cluster.Lock(o.Dir, o.NodeID)
	if err != nil {
		return nil, err
	}
	s.Dir = filepath.Join(o.Dir, "storage")
	log, err := storage.Open(s)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	o.Lock, o.Log = lock, log
	group, err := cluster.Open(ctx, o)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	n := &Node{Group: group, Log: log}
	n.stop = n.run()
	if err := group.Ready(ctx); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

// run starts the node's goroutines and returns what ends them.
func (n *Node) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Group.Run(ctx) })
	wg.Go(func() { _ = n.Log.Run(ctx) })
	return sync.OnceValue(func() error {
		err := n.Group.Shutdown(context.Background())
		cancel()
		wg.Wait()
		return errors.Join(err, n.Log.Close())
	})
}

// Stop stops the node cleanly. It may be called more than once.
func (n *Node) Stop() error { return n.stop() }
