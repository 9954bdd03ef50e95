package bench

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// meter measures what a phase costs.
type meter struct {
	target *Target
	client time.Duration
	nodes  []Usage
}

// startMeter reads what was used until now.
func startMeter(ctx context.Context, t *Target) (*meter, error) {
	m := &meter{target: t}
	for _, n := range t.Nodes {
		u, err := n.Usage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read what node %s uses: %w", n.ID, err)
		}
		m.nodes = append(m.nodes, u)
	}
	m.client = ownCPU()
	return m, nil
}

// spent is what a phase has used.
type spent struct {
	client time.Duration
	server time.Duration // of all nodes
	memory uint64        // of all nodes: the peak, or what is resident now where there is no peak
	peak   bool
	known  bool // server and memory are
}

// stop reads what was used since.
func (m *meter) stop(ctx context.Context) (spent, error) {
	s := spent{client: ownCPU() - m.client, known: len(m.nodes) > 0, peak: true}
	for i, n := range m.target.Nodes {
		u, err := n.Usage(ctx)
		if err != nil {
			return s, fmt.Errorf("read what node %s uses: %w", n.ID, err)
		}
		s.server += u.CPU - m.nodes[i].CPU
		s.memory += max(u.Peak, u.Resident)
		s.peak = s.peak && u.Peak > 0
	}
	return s, nil
}

// figures are the costs of so many records.
func (s spent) figures(t *Target, records uint64) []Figure {
	if records == 0 {
		return nil
	}
	perMillion := func(d time.Duration) float64 { return d.Seconds() / float64(records) * 1e6 }
	if t.OneProcess {
		return []Figure{{"CPU of client and server", "s/million", perMillion(s.client)}}
	}
	figures := []Figure{{"client CPU", "s/million", perMillion(s.client)}}
	if s.known {
		memory := "server memory now"
		if s.peak {
			memory = "server memory peak"
		}
		figures = append(figures, Figure{"server CPU", "s/million", perMillion(s.server)}, Figure{memory, "MiB", float64(s.memory) / (1 << 20)})
	}
	return figures
}
