package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// system is a broker, or several, that run.
type system interface {
	// topic makes a log of its own for a job; it returns when records can be published to it.
	topic(ctx context.Context, name string) error

	// dial connects to the node that leads a topic.
	dial(ctx context.Context, topic string) (conn, error)

	pids() []int
	stop()
}

// conn is one client connection. One goroutine uses it.
type conn interface {
	// publish sends a record and waits until it is acknowledged.
	publish(ctx context.Context, body []byte) error

	// send sends a record without waiting, as far as the client's own limit allows; flush waits until all are acknowledged.
	send(ctx context.Context, body []byte) error
	flush(ctx context.Context) error

	// read hands over the first n records, and then those to come, in order. ready is closed when the subscription stands.
	read(ctx context.Context, n int, ready chan<- struct{}, each func(body []byte)) error

	close()
}

// kind is a system that can be started.
type kind struct {
	name       string
	durability string
	start      func(ctx context.Context, s *settings, dir string) (system, error)
}

var kinds = []kind{
	{"waxwing-3", "fsynced by a majority of 3", func(ctx context.Context, s *settings, dir string) (system, error) {
		return startWaxwing(ctx, s, dir, 3)
	}},
	{"waxwing-1", "fsynced on 1 node", func(ctx context.Context, s *settings, dir string) (system, error) {
		return startWaxwing(ctx, s, dir, 1)
	}},
	{"nats-3", "raft log fsynced by a majority of 3 (sync_interval: always)", natsKind(3, true, false)},
	{"nats-3-fast", "the same, fast batch publish", natsKind(3, true, true)},
	{"nats-3-default", "page cache of a majority of 3, fsynced every 2 min", natsKind(3, false, false)},
	{"nats-1", "fsynced on 1 node (sync_interval: always)", natsKind(1, true, false)},
	{"redis-1", "AOF fsynced on 1 node (appendfsync always)", startRedis},
	{"nats-1-default", "page cache of 1 node, fsynced every 2 min", natsKind(1, false, false)},
}

func names() (list []string) {
	for _, k := range kinds {
		list = append(list, k.name)
	}
	return list
}

func choose(text string) (chosen []kind, err error) {
	for name := range strings.SplitSeq(text, ",") {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-systems: %q is none of %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, kinds[i])
	}
	return chosen, nil
}

// build makes the waxwing binary of this checkout.
func build(ctx context.Context, out string) error {
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, "./cmd/waxwing")
	c.Dir = "../.."
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build waxwing (run this in bench/peers of a checkout, or name a binary with -waxwing): %w\n%s", err, text)
	}
	return nil
}

// cpuSeconds is the processor time that processes have used, as the kernel counts it (proc(5), in ticks of 10 ms).
func cpuSeconds(pids []int) (sum float64) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, i := range []int{11, 12} {
			ticks, _ := strconv.ParseFloat(f[i], 64)
			sum += ticks / 100
		}
	}
	return sum
}
