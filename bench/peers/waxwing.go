package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
)

// startWait bounds the start of servers.
const startWait = 2 * time.Minute

// waxwing is one broker process, or three.
type waxwing struct {
	files   files
	servers []string
	nodes   []*launch.Process
}

func startWaxwing(ctx context.Context, s *settings, dir string, nodes int) (system, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	w := &waxwing{}
	if err := w.start(ctx, s.binary, dir, nodes); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *waxwing) start(ctx context.Context, binary, dir string, nodes int) error {
	p, err := newPKI(dir)
	if err != nil {
		return err
	}
	if w.files, err = p.issue("bench", identity.RoleClient); err != nil {
		return err
	}
	free, err := ports(2 * nodes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), policy.Dev(trustDomain), 0o600); err != nil {
		return err
	}
	var join []string
	for i := range nodes {
		w.servers = append(w.servers, fmt.Sprintf("127.0.0.1:%d", free[i]))
		join = append(join, fmt.Sprintf("n%d@127.0.0.1:%d", i+1, free[nodes+i]))
	}
	for i := range nodes {
		f, err := p.issue(fmt.Sprint("n", i+1), identity.RoleBroker)
		if err != nil {
			return err
		}
		peers := "listen: {client: %q, peer: %q, https: \"\"}\ncluster: {bootstrap_expect: %d, join: [%s]}\n"
		listen := fmt.Sprintf(peers, w.servers[i], strings.SplitN(join[i], "@", 2)[1], nodes, strings.Join(join, ", "))
		if nodes == 1 {
			listen = fmt.Sprintf("listen: {client: %q, peer: \"\", https: \"\"}\n", w.servers[0])
		}
		text := fmt.Sprintf("node: {id: n%d, data_dir: %q}\ntrust_domain: %s\n%stls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\n",
			i+1, filepath.Join(dir, fmt.Sprint("n", i+1)), trustDomain, listen, f.cert, f.key, f.ca, filepath.Join(dir, "policy.yaml"))
		config := filepath.Join(dir, fmt.Sprintf("n%d.yaml", i+1))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		n, err := launch.Spawn(launch.Options{Binary: binary, Args: []string{"serve", "-c", config}})
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *waxwing) pids() (list []int) {
	for _, n := range w.nodes {
		list = append(list, n.PID())
	}
	return list
}

func (w *waxwing) stop() {
	for _, n := range w.nodes {
		n.Kill()
	}
}

// options connect to a node first.
func (w *waxwing) options(first int) client.Options {
	o := client.Options{CertFile: w.files.cert, KeyFile: w.files.key, CAFile: w.files.ca, RequestTimeout: startWait}
	for i := range w.servers {
		o.Servers = append(o.Servers, w.servers[(first+i)%len(w.servers)])
	}
	return o
}

func (w *waxwing) topic(ctx context.Context, name string) error {
	c, err := client.Dial(ctx, w.options(0))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Topics().Create(ctx, name, client.TopicSpec{})
	return err
}

// dial connects to the node that the brokers name as their leader.
func (w *waxwing) dial(ctx context.Context, topic string) (conn, error) {
	for first := 0; ctx.Err() == nil; first = (first + 1) % len(w.servers) {
		c, err := client.Dial(ctx, w.options(first))
		if err != nil {
			return nil, err
		}
		if leader := c.Welcome().Leader; leader == w.servers[first] || len(w.servers) == 1 {
			return &waxwingConn{c, topic}, nil
		}
		c.Close(ctx)
	}
	return nil, context.Cause(ctx)
}

type waxwingConn struct {
	c     *client.Client
	topic string
}

func (c *waxwingConn) publish(ctx context.Context, body []byte) error {
	_, err := c.c.Publish(ctx, c.topic, client.Record{Body: body})
	return err
}

func (c *waxwingConn) send(ctx context.Context, body []byte) error {
	c.c.PublishAsync(ctx, c.topic, client.Record{Body: body})
	return nil
}

func (c *waxwingConn) flush(ctx context.Context) error { return c.c.Flush(ctx) }

func (c *waxwingConn) read(ctx context.Context, n int, ready chan<- struct{}, each func([]byte)) error {
	sub, err := c.c.Subscribe(ctx, client.SubscribeOptions{Topics: []string{c.topic}, From: client.Earliest()})
	if err != nil {
		return err
	}
	defer sub.Close()
	if ready != nil {
		close(ready)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			return err
		}
		each(m.Body)
		if n--; n == 0 {
			return nil
		}
	}
	return fmt.Errorf("the subscription ended with %d records to come", n)
}

func (c *waxwingConn) close() { c.c.Close(context.Background()) }
