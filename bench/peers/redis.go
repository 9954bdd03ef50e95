package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/redis/go-redis/v9"

	"github.com/waxwing-mq/waxwing/identity"
)

// redisPipeline is how many XADDs a connection sends at once; it waits for all their answers before the next, as the client library's
// pipelines do.
const redisPipeline = 512

// redisServer is one redis-server of this machine, with a stream for each topic.
type redisServer struct {
	files   files
	address string
	child   *exec.Cmd
}

// startRedis needs redis-server in PATH, with TLS.
func startRedis(ctx context.Context, _ *settings, dir string) (system, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w: install redis-server, or leave redis-1 out of -systems", err)
	}
	r := &redisServer{}
	if err := r.start(ctx, program, dir); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *redisServer) start(ctx context.Context, program, dir string) error {
	p, err := newPKI(dir)
	if err != nil {
		return err
	}
	if r.files, err = p.issue("bench", identity.RoleClient); err != nil {
		return err
	}
	f, err := p.issue("n1", identity.RoleBroker)
	if err != nil {
		return err
	}
	free, err := ports(1)
	if err != nil {
		return err
	}
	r.address = fmt.Sprintf("127.0.0.1:%d", free[0])
	r.child = exec.Command(program, "--bind", "127.0.0.1", "--port", "0", "--tls-port", fmt.Sprint(free[0]), "--dir", dir,
		"--tls-cert-file", f.cert, "--tls-key-file", f.key, "--tls-ca-cert-file", f.ca, "--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.3",
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0")
	r.child.SysProcAttr = withParent()
	if err := r.child.Start(); err != nil {
		return err
	}
	return retry(ctx, func() error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Ping(ctx).Err()
	})
}

func (r *redisServer) connect() (*redis.Client, error) {
	t, err := r.files.load()
	if err != nil {
		return nil, err
	}
	return redis.NewClient(&redis.Options{Addr: r.address, TLSConfig: t, PoolSize: 1, MaxRetries: -1, ReadTimeout: startWait}), nil
}

func (r *redisServer) pids() []int { return []int{r.child.Process.Pid} }

func (r *redisServer) stop() {
	if r.child != nil && r.child.Process != nil {
		_ = r.child.Process.Kill()
		_ = r.child.Wait()
	}
}

// topic has nothing to make: the first XADD does.
func (r *redisServer) topic(context.Context, string) error { return nil }

func (r *redisServer) dial(ctx context.Context, topic string) (conn, error) {
	c, err := r.connect()
	if err != nil {
		return nil, err
	}
	return &redisConn{c: c, topic: topic, pipeline: c.Pipeline()}, c.Ping(ctx).Err()
}

type redisConn struct {
	c        *redis.Client
	topic    string
	pipeline redis.Pipeliner
}

func (c *redisConn) add(body []byte) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: c.topic, Values: []any{"b", body}}
}

func (c *redisConn) publish(ctx context.Context, body []byte) error {
	return c.c.XAdd(ctx, c.add(body)).Err()
}

func (c *redisConn) send(ctx context.Context, body []byte) error {
	c.pipeline.XAdd(ctx, c.add(body))
	if c.pipeline.Len() < redisPipeline {
		return nil
	}
	return c.flush(ctx)
}

func (c *redisConn) flush(ctx context.Context) error {
	if c.pipeline.Len() == 0 {
		return nil
	}
	_, err := c.pipeline.Exec(ctx)
	return err
}

func (c *redisConn) read(ctx context.Context, n int, ready chan<- struct{}, each func([]byte)) error {
	if ready != nil {
		close(ready)
	}
	for last := "0"; n > 0; {
		got, err := c.c.XRead(ctx, &redis.XReadArgs{Streams: []string{c.topic, last}, Count: 4096, Block: startWait / 2}).Result()
		if err != nil {
			return err
		}
		for _, m := range got[0].Messages {
			body, _ := m.Values["b"].(string)
			each([]byte(body))
			if last = m.ID; n > 0 {
				n--
			}
		}
	}
	return nil
}

func (c *redisConn) close() { c.c.Close() }
