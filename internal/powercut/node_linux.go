package powercut

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/waxwing-mq/waxwing/internal/launch"
)

// node is a broker's process. One goroutine uses it.
type node struct {
	p       *launch.Process
	ready   chan error // the broker serves, or will not
	stopped chan error // it stands still
	serves  bool
}

// spawnNode starts a broker on a disk, under another program if one is named.
func spawnNode(ctx context.Context, s *site, id string, d *Disk, under []string, env ...string) (*node, error) {
	p, err := s.spawn(id, d, under, env...)
	if err != nil {
		return nil, err
	}
	n := &node{p: p, ready: make(chan error, 1)}
	go func() { n.ready <- p.AwaitReady(ctx) }() // ends with the process at the latest
	n.watch()
	return n, nil
}

// watch begins to wait for the next stop.
func (n *node) watch() {
	stopped := make(chan error, 1)
	n.stopped = stopped
	go func() { stopped <- AwaitStop(n.p.PID()) }() // ends with the process at the latest
}

// awaitReady waits until the broker serves, or stands still (and stopped is true).
func (n *node) awaitReady(ctx context.Context) (stopped bool, err error) {
	if n.serves {
		return false, nil
	}
	select {
	case err := <-n.ready:
		n.serves = err == nil
		return false, err
	case err := <-n.stopped:
		return true, n.explain(err)
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// stop makes the process stand still, unless it does already.
func (n *node) stop() error {
	if err := n.p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop broker: %w", err)
	}
	return n.explain(<-n.stopped)
}

// resume lets a stopped process go on.
func (n *node) resume() error {
	n.watch()
	if err := n.p.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continue broker: %w", err)
	}
	return nil
}

// explain adds the log of a process that ended when it should not.
func (n *node) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, n.p.Log())
}

// kill ends the process, stopped or not.
func (n *node) kill() {
	if n != nil {
		n.p.Kill()
	}
}

// shutdown ends the process as an operator does, and wants a clean end.
func (n *node) shutdown(ctx context.Context) error {
	if err := n.p.Stop(ctx); err != nil {
		return n.explain(fmt.Errorf("stop broker: %w", err))
	}
	return nil
}

// serve starts the broker that is alone and waits until it serves.
func serve(ctx context.Context, s *site, d *Disk) (*node, error) {
	n, err := spawnNode(ctx, s, nodeName, d, nil)
	if err != nil {
		return nil, err
	}
	stopped, err := n.awaitReady(ctx)
	if stopped && err == nil {
		err = errors.New("it stopped by itself")
	}
	if err != nil {
		n.kill()
		return nil, err
	}
	return n, nil
}
