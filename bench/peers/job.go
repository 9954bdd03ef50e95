package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// job is what every system is asked to do.
type job struct {
	name string
	unit string // of the first figure
	run  func(ctx context.Context, s *settings, sys system) (result, error)
}

// result is what one run of a job gave.
type result struct {
	records  int
	rate     float64 // records per second
	p50, p99 time.Duration
	cpu      float64 // seconds, of all servers
}

var allJobs = []job{
	{"publish, 1 connection", "records/s", func(ctx context.Context, s *settings, sys system) (result, error) { return pipelined(ctx, s, sys, 1) }},
	{"publish, 8 connections", "records/s", func(ctx context.Context, s *settings, sys system) (result, error) { return pipelined(ctx, s, sys, 8) }},
	{"one at a time", "records/s", oneAtATime},
	{"read", "records/s", readBack},
	{"publish to subscriber, 1,000/s", "records/s", steady},
}

func jobNames() (list []string) {
	for _, j := range allJobs {
		list = append(list, strings.ReplaceAll(j.name, ",", ""))
	}
	return list
}

func chooseJobs(text string) (chosen []job, err error) {
	for name := range strings.SplitSeq(text, ",") {
		i := slices.Index(jobNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("-jobs: %q is none of %s", name, strings.Join(jobNames(), "; "))
		}
		chosen = append(chosen, allJobs[i])
	}
	return chosen, nil
}

// topicName is the one log of a run: its servers are fresh.
const topicName = "peers"

// body is a random body that carries its number and a checksum.
func body(r *rand.Rand, size int, number uint64) []byte {
	b := make([]byte, size)
	for i := 12; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	binary.BigEndian.PutUint64(b[4:], number)
	binary.BigEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	return b
}

// number checks a body and returns its number.
func number(b []byte) (uint64, error) {
	if len(b) < 16 || binary.BigEndian.Uint32(b) != crc32.ChecksumIEEE(b[4:]) {
		return 0, fmt.Errorf("a record came with other bytes than were published")
	}
	return binary.BigEndian.Uint64(b[4:]), nil
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// pipelined publishes over several connections with as much in flight as the client allows.
func pipelined(ctx context.Context, s *settings, sys system, conns int) (result, error) {
	clients, err := connect(ctx, sys, conns)
	if err != nil {
		return result{}, err
	}
	defer closeAll(clients)
	each := s.records / conns
	errs := make([]error, conns)
	begin := time.Now()
	var work sync.WaitGroup
	for i, c := range clients {
		work.Go(func() { errs[i] = stream(ctx, c, s.size, each) })
	}
	work.Wait()
	took := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return result{}, err
		}
	}
	return result{records: each * conns, rate: float64(each*conns) / took.Seconds()}, nil
}

// stream publishes records numbered from 0.
func stream(ctx context.Context, c conn, size, n int) error {
	r := random()
	for i := range n {
		if err := c.send(ctx, body(r, size, uint64(i))); err != nil {
			return err
		}
	}
	return c.flush(ctx)
}

// connect makes the topic and connects to its leader.
func connect(ctx context.Context, sys system, n int) (list []conn, err error) {
	if err := sys.topic(ctx, topicName); err != nil {
		return nil, fmt.Errorf("create the topic: %w", err)
	}
	for range n {
		c, err := sys.dial(ctx, topicName)
		if err != nil {
			closeAll(list)
			return nil, fmt.Errorf("connect: %w", err)
		}
		list = append(list, c)
	}
	return list, nil
}

func closeAll(list []conn) {
	for _, c := range list {
		c.close()
	}
}

func oneAtATime(ctx context.Context, s *settings, sys system) (result, error) {
	clients, err := connect(ctx, sys, 1)
	if err != nil {
		return result{}, err
	}
	defer closeAll(clients)
	r, waits := random(), make([]time.Duration, s.slow)
	begin := time.Now()
	for i := range waits {
		b := body(r, s.size, uint64(i))
		sent := time.Now()
		if err := clients[0].publish(ctx, b); err != nil {
			return result{}, err
		}
		waits[i] = time.Since(sent)
	}
	took := time.Since(begin)
	slices.Sort(waits)
	return result{records: s.slow, rate: float64(s.slow) / took.Seconds(), p50: at(waits, 50), p99: at(waits, 99)}, nil
}

// readBack reads what was published before, from the beginning; only the reading is timed, and every record is checked. CPU is
// that of publishing and reading.
func readBack(ctx context.Context, s *settings, sys system) (result, error) {
	clients, err := connect(ctx, sys, 2)
	if err != nil {
		return result{}, err
	}
	defer closeAll(clients)
	if err := stream(ctx, clients[0], s.size, s.records); err != nil {
		return result{}, err
	}
	begin := time.Now()
	if err := inOrder(ctx, clients[1], s.records, nil, func(uint64) {}); err != nil {
		return result{}, err
	}
	return result{records: s.records, rate: float64(s.records) / time.Since(begin).Seconds()}, nil
}

// inOrder reads n records that must be numbered 0 to n-1.
func inOrder(ctx context.Context, c conn, n int, ready chan<- struct{}, each func(uint64)) error {
	var next uint64
	var bad error
	err := c.read(ctx, n, ready, func(b []byte) {
		got, err := number(b)
		if err == nil && got != next {
			err = fmt.Errorf("record %d came in the place of %d", got, next)
		}
		if err != nil && bad == nil {
			bad = err
		}
		each(next)
		next++
	})
	if err == nil {
		err = bad
	}
	return err
}

// steady publishes 1,000 records a second at even times, and times each from when it was due until a subscriber has it: no wait is
// hidden by a publisher that waits too.
func steady(ctx context.Context, s *settings, sys system) (result, error) {
	clients, err := connect(ctx, sys, 2)
	if err != nil {
		return result{}, err
	}
	defer closeAll(clients)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := int(s.steady / time.Millisecond)
	waits := make([]time.Duration, n)
	ready, done := make(chan struct{}), make(chan error, 1)
	var begin time.Time // set before the first record is sent
	go func() {
		err := inOrder(ctx, clients[1], n, ready, func(i uint64) {
			waits[i] = time.Since(begin.Add(time.Duration(i) * time.Millisecond))
		})
		if err != nil {
			cancel(err)
		}
		done <- err
	}()
	select {
	case <-ready:
	case err := <-done:
		return result{}, err
	}
	begin = time.Now()
	if err := pace(ctx, clients[0], s.size, n, begin); err != nil {
		return result{}, err
	}
	if err := <-done; err != nil {
		return result{}, err
	}
	took := time.Since(begin)
	slices.Sort(waits)
	return result{records: n, rate: float64(n) / took.Seconds(), p50: at(waits, 50), p99: at(waits, 99)}, nil
}

// pace sends record i at begin + i ms.
func pace(ctx context.Context, c conn, size, n int, begin time.Time) error {
	r := random()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; i < n; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for ; i < n && time.Since(begin) >= time.Duration(i)*time.Millisecond; i++ {
			if err := c.send(ctx, body(r, size, uint64(i))); err != nil {
				return err
			}
		}
	}
	return c.flush(ctx)
}

// at is a percentile of sorted durations.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}
