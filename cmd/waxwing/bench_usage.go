package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
)

// metrics reads those of one broker, as the client that measures.
type metrics struct {
	address string
	client  *http.Client
}

// metricsTimeout bounds one look at them.
const metricsTimeout = time.Minute

// metricsBytesMax bounds what is read of them.
const metricsBytesMax = 16 << 20

func newMetrics(o client.Options, address string) (*metrics, error) {
	source, err := identity.OpenClient(identity.ClientOptions{CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile, ServerName: o.ServerName})
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usage("--metrics %q is no HOST:PORT: %w", address, err)
	}
	transport := &http.Transport{TLSClientConfig: source.ConfigFor(host, identity.AdminSide), ForceAttemptHTTP2: true, DisableKeepAlives: true}
	return &metrics{address, &http.Client{Transport: transport, Timeout: metricsTimeout}}, nil
}

// read gets all samples, by name and labels as they are written.
func (m *metrics) read(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := m.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics of %s: %s; the identity needs the right observe", m.address, answer.Status)
	}
	samples := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(answer.Body, metricsBytesMax))
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); ok && err == nil && name != "#" {
			samples[name] = v
		}
	}
	return samples, lines.Err()
}

// usage is what the broker's process has used.
func (m *metrics) usage(ctx context.Context) (bench.Usage, error) {
	s, err := m.read(ctx)
	if err != nil {
		return bench.Usage{}, err
	}
	cpu, ok := s["process_cpu_seconds_total"]
	if !ok {
		return bench.Usage{}, fmt.Errorf("%s has no metric process_cpu_seconds_total", m.address)
	}
	return bench.Usage{CPU: time.Duration(cpu * float64(time.Second)), Resident: uint64(s["process_resident_memory_bytes"])}, nil
}

// handshakes is how many the broker has counted.
func (m *metrics) handshakes(ctx context.Context) (full, resumed uint64, err error) {
	s, err := m.read(ctx)
	return uint64(s[`waxwing_handshakes_total{kind="full"}`]), uint64(s[`waxwing_handshakes_total{kind="resumed"}`]), err
}

// restPause is between two looks whether a broker has collected its garbage.
const restPause = 20 * time.Millisecond

// rest calls ask, which has the broker do as giveBack says, and reads what is in use after that.
func (m *metrics) rest(ctx context.Context, ask func() error) (inUse uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	s, err := m.read(ctx)
	if err != nil {
		return 0, err
	}
	const collections = "go_gc_duration_seconds_count"
	until := s[collections] + 2
	if err := ask(); err != nil {
		return 0, err
	}
	for {
		if s, err = m.read(ctx); err != nil {
			return 0, err
		}
		if s[collections] >= until {
			return uint64(s["go_gc_heap_live_bytes"] + s["go_memstats_stack_inuse_bytes"]), nil
		}
		select {
		case <-time.After(restPause):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// usageOf reads what a process of this machine uses: from Linux itself, where that is, else from its metrics.
func usageOf(pid int, m *metrics) func(context.Context) (bench.Usage, error) {
	if runtime.GOOS != "linux" {
		return m.usage
	}
	return func(context.Context) (bench.Usage, error) { return processUsage(pid) }
}

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every platform that Go knows.
const clockTick = 10 * time.Millisecond

// processUsage reads /proc.
func processUsage(pid int) (u bench.Usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name before may hold spaces
	f := strings.Fields(rest)
	if len(f) < 13 {
		return u, errors.New("/proc/PID/stat is too short")
	}
	for _, ticks := range f[11:13] { // proc_pid_stat(5): utime, stime
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmHWM":
			u.Peak = kib << 10
		case "VmRSS":
			u.Resident = kib << 10
		case "RssAnon":
			u.Private = kib << 10
		}
	}
	return u, nil
}
