package powercut

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/fault"
)

// machine is one disk with the broker that runs on it, and the client that publishes to it as long
// as the disk lives, whatever happens to the broker's process.
type machine struct {
	site *site
	disk *Disk
	node *node // nil = not running
	cuts int

	journal journal
	client  *client.Client
	gate    gate // to the broker, while it runs
	ctx     context.Context
	cancel  context.CancelFunc
	failed  chan error // the first failure of a publisher
	wg      sync.WaitGroup
}

// newMachine makes a machine that was never started.
func newMachine(ctx context.Context, s *site, name string, bytes int64) (*machine, error) {
	disk, err := NewDisk(s.path(name+".img"), s.path(name), bytes)
	if err != nil {
		return nil, err
	}
	m := &machine{site: s, disk: disk, failed: make(chan error, partitions)}
	m.ctx, m.cancel = context.WithCancel(ctx)
	return m, nil
}

// start starts the broker with a fault point armed ("" = none), and waits until it serves or, if
// that comes first, stands still.
func (m *machine) start(ctx context.Context, under []string, arm string) (stopped bool, err error) {
	m.kill()
	if m.node, err = spawnNode(m.ctx, m.site, nodeName, m.disk, under, fault.Env+"="+arm); err != nil {
		return false, err
	}
	return m.awaitReady(ctx)
}

// awaitReady waits as node does, and lets the client know where the broker is.
func (m *machine) awaitReady(ctx context.Context) (stopped bool, err error) {
	stopped, err = m.node.awaitReady(ctx)
	if err == nil && !stopped {
		m.gate.open(m.node.p.Ready.Client)
	}
	return stopped, err
}

// publish begins to publish bodies of up to so many bytes, if nobody does yet. The broker serves.
func (m *machine) publish(ctx context.Context, bodyMax int) (err error) {
	if m.client != nil {
		return nil
	}
	m.client, err = m.site.dial(ctx, publisherName, &m.gate)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if _, err := m.client.Topics().Create(ctx, topicName, client.TopicSpec{Partitions: partitions}); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	m.journal.created()
	if _, err := m.client.Topics().Create(ctx, churnName, client.TopicSpec{MaxBytes: churnKeeps}); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	m.wg.Go(func() { churn(m.ctx, m.client, bodyMax) })
	for p := range uint32(partitions) {
		m.wg.Go(func() {
			if err := publish(m.ctx, m.client, &m.journal, p, bodyMax); err != nil {
				m.failed <- err
			}
		})
	}
	return nil
}

// adopt puts a recovered disk and the broker on it in the place of the ones whose power was cut: the client finds it
// there, sends again what was not acknowledged, and publishes on.
func (m *machine) adopt(disk *Disk, n *node) error {
	m.kill()
	err := m.disk.Discard()
	m.disk, m.node = disk, n
	m.gate.open(n.p.Ready.Client)
	return err
}

// awaitAcks waits for n more acknowledgements, or until the broker stands still before.
func (m *machine) awaitAcks(ctx context.Context, n int64) (stopped bool, err error) {
	select {
	case <-m.journal.more(n):
		return false, nil
	case err := <-m.node.stopped:
		return true, m.node.explain(err)
	case err := <-m.failed:
		return false, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// kill ends the broker with SIGKILL.
func (m *machine) kill() {
	m.gate.open("")
	m.node.kill()
	m.node = nil
}

// discard ends everything.
func (m *machine) discard() error {
	if m == nil {
		return nil
	}
	m.cancel()
	m.kill()
	m.wg.Wait()
	var err error
	if m.client != nil {
		m.client.Close(m.ctx) // what is unanswered stays so; that is no error here
	}
	select {
	case err = <-m.failed:
	default:
	}
	return errors.Join(err, m.disk.Discard())
}
