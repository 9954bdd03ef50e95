package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/waxwing-mq/waxwing/identity"
)

// asyncPending is how many records a connection of NATS keeps in flight: as many of 256 bytes as Waxwing's client does with its 64 batches. 512 made
// NATS a third slower.
const asyncPending = 16384

// natsServers is one nats-server process, or three: this program again, which embeds it.
type natsServers struct {
	nodes    int
	fast     bool
	files    files
	urls     []string
	children []*exec.Cmd
}

func natsKind(nodes int, always, fast bool) func(context.Context, *settings, string) (system, error) {
	return func(ctx context.Context, _ *settings, dir string) (system, error) {
		ctx, cancel := context.WithTimeout(ctx, startWait)
		defer cancel()
		n := &natsServers{nodes: nodes, fast: fast}
		if err := n.start(ctx, dir, always); err != nil {
			n.stop()
			return nil, err
		}
		return n, nil
	}
}

func (n *natsServers) start(ctx context.Context, dir string, always bool) error {
	p, err := newPKI(dir)
	if err != nil {
		return err
	}
	if n.files, err = p.issue("bench", identity.RoleClient); err != nil {
		return err
	}
	free, err := ports(2 * n.nodes)
	if err != nil {
		return err
	}
	var routes []string
	for i := range n.nodes {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", free[n.nodes+i]))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range n.nodes {
		f, err := p.issue(fmt.Sprint("n", i+1), identity.RoleBroker)
		if err != nil {
			return err
		}
		c := natsConfig{Name: fmt.Sprint("n", i+1), Dir: filepath.Join(dir, fmt.Sprint("n", i+1)), Port: free[i], Cert: f.cert, Key: f.key, CA: f.ca, Always: always}
		if n.nodes > 1 {
			c.ClusterPort, c.Routes = free[n.nodes+i], routes
		}
		text, err := json.Marshal(c)
		if err != nil {
			return err
		}
		child := exec.Command(self)
		child.Env = append(os.Environ(), serverEnv+"="+string(text))
		child.Stderr = os.Stderr
		child.SysProcAttr = withParent()
		if err := child.Start(); err != nil {
			return err
		}
		n.children = append(n.children, child)
		n.urls = append(n.urls, fmt.Sprintf("tls://127.0.0.1:%d", free[i]))
	}
	return n.await(ctx)
}

// await waits until every server answers.
func (n *natsServers) await(ctx context.Context) error {
	for _, url := range n.urls {
		err := retry(ctx, func() error {
			c, err := n.connect(url)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// retry tries a step until it works or ctx ends.
func retry(ctx context.Context, step func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := step()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (n *natsServers) connect(url string) (*nats.Conn, error) {
	return nats.Connect(url, nats.ClientCert(n.files.cert, n.files.key), nats.RootCAs(n.files.ca), nats.DontRandomize(), nats.IgnoreDiscoveredServers(), nats.TLSHandshakeFirst())
}

func (n *natsServers) pids() (list []int) {
	for _, c := range n.children {
		list = append(list, c.Process.Pid)
	}
	return list
}

func (n *natsServers) stop() {
	for _, c := range n.children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// topic makes a stream of one subject.
func (n *natsServers) topic(ctx context.Context, name string) error {
	return retry(ctx, func() error { // a cluster needs its meta leader first
		c, err := n.connect(n.urls[0])
		if err != nil {
			return err
		}
		defer c.Close()
		js, err := jetstream.New(c)
		if err != nil {
			return err
		}
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: n.nodes, AllowBatchPublish: n.fast})
		return err
	})
}

// dial connects to the server that leads the stream.
func (n *natsServers) dial(ctx context.Context, topic string) (c conn, err error) {
	err = retry(ctx, func() error {
		url, err := n.leader(ctx, topic)
		if err != nil {
			return err
		}
		c, err = n.dialAt(url, topic)
		return err
	})
	return c, err
}

func (n *natsServers) leader(ctx context.Context, topic string) (string, error) {
	if n.nodes == 1 {
		return n.urls[0], nil
	}
	c, err := n.connect(n.urls[0])
	if err != nil {
		return "", err
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		return "", err
	}
	stream, err := js.Stream(ctx, topic)
	if err != nil {
		return "", err
	}
	for i, url := range n.urls {
		if at := stream.CachedInfo().Cluster; at != nil && at.Leader == fmt.Sprint("n", i+1) {
			return url, nil
		}
	}
	return "", errors.New("the stream has no leader yet")
}

func (n *natsServers) dialAt(url, topic string) (*natsConn, error) {
	c, err := n.connect(url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(asyncPending), jetstream.WithPublishAsyncTimeout(startWait))
	if err != nil {
		c.Close()
		return nil, err
	}
	return &natsConn{c: c, js: js, topic: topic, fast: n.fast}, nil
}

type natsConn struct {
	c     *nats.Conn
	js    jetstream.JetStream
	topic string
	fast  bool

	batch   jetstreamext.FastPublisher // under way
	last    []byte                     // of batch, kept back for its commit
	pending []jetstream.PubAckFuture
}

func (c *natsConn) publish(ctx context.Context, body []byte) error {
	_, err := c.js.Publish(ctx, c.topic, body)
	return err
}

func (c *natsConn) send(ctx context.Context, body []byte) error {
	if c.fast {
		return c.sendFast(body)
	}
	f, err := c.js.PublishAsync(c.topic, body, jetstream.WithStallWait(time.Minute)) // by itself it gives up when the window stays full for 0.2 s
	if err != nil {
		return err
	}
	if c.pending = append(c.pending, f); len(c.pending) >= 4*asyncPending {
		return c.settle(ctx, len(c.pending)/2)
	}
	return nil
}

// settle checks the oldest n acknowledgements.
func (c *natsConn) settle(ctx context.Context, n int) error {
	for _, f := range c.pending[:n] {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	c.pending = append(c.pending[:0], c.pending[n:]...)
	return nil
}

func (c *natsConn) sendFast(body []byte) (err error) {
	if c.batch == nil {
		if c.batch, err = jetstreamext.NewFastPublisher(c.js, jetstreamext.FastPublishFlowControl{AckTimeout: startWait}); err != nil {
			return err
		}
	}
	if c.last != nil {
		if _, err := c.batch.Add(c.topic, c.last); err != nil {
			return err
		}
	}
	c.last = body
	return nil
}

func (c *natsConn) flush(ctx context.Context) error {
	if c.batch != nil {
		_, err := c.batch.Commit(ctx, c.topic, c.last)
		c.batch, c.last = nil, nil
		return err
	}
	return c.settle(ctx, len(c.pending))
}

// read takes an ordered consumer: nothing is acknowledged.
func (c *natsConn) read(ctx context.Context, n int, ready chan<- struct{}, each func([]byte)) error {
	consumer, err := c.js.OrderedConsumer(ctx, c.topic, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(4096))
	if err != nil {
		return err
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	if ready != nil {
		close(ready)
	}
	for ; n > 0; n-- {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		each(m.Data())
	}
	return nil
}

func (c *natsConn) close() { c.c.Close() }
