package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Failover publishes while the leader is killed, and looks for how long nothing is acknowledged.
const Failover Scenario = "failover"

// killAfter is how long the measured phase has run when the leader is killed.
const killAfter = time.Second

// gap is the longest time without an acknowledgement. Its methods may be used by many goroutines.
type gap struct {
	mu      sync.Mutex
	last    time.Time     // Guarded by mu. The latest acknowledgement.
	since   time.Time     // Guarded by mu. Gaps that end before are not looked at; zero = all are
	longest time.Duration // Guarded by mu.
}

func (g *gap) acknowledged(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := at.Sub(g.last); !g.last.IsZero() && at.After(g.since) && d > g.longest {
		g.longest = d
	}
	g.last = at
}

// from looks only at gaps that end after at.
func (g *gap) from(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since, g.longest = at, 0
}

func (g *gap) length() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.longest
}

// runFailover publishes, kills the leader on the way, and reads everything back.
func runFailover(ctx context.Context, j *job, interrupted context.Context) (*RunOf, error) {
	if err := j.addPublishers(interrupted, j.o.Conns); err != nil {
		return nil, err
	}
	var recorders []*recorder
	for _, p := range j.publishers {
		p.gap = new(gap)
		recorders = append(recorders, p.recorder)
	}
	if _, err := j.publish(ctx, &phase{duration: max(j.o.Warmup, 1)}); err != nil {
		return nil, err
	}
	histogramsOf(recorders) // of the warm-up
	leader, err := j.leader(ctx)
	if err != nil {
		return nil, err
	}
	var victim *Node
	for i := range j.target.Nodes {
		if n := &j.target.Nodes[i]; n.ID == leader && n.Kill != nil {
			victim = n
		}
	}
	if victim == nil && j.target.Own {
		return nil, errors.New("failover: there is nobody to take over; use --against dev3, or a context of several nodes")
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		j.strike(interrupted, victim, leader)
	}()
	took, err := j.publish(ctx, &phase{duration: j.o.Duration, messages: j.o.Messages})
	<-killed
	if err != nil {
		return nil, err
	}
	if victim != nil && victim.Restart != nil {
		if err := victim.Restart(ctx); err != nil {
			return nil, err
		}
	}
	v, err := j.readBack(ctx, j.acknowledged())
	return &RunOf{Rows: []Row{j.failoverRow(histogramsOf(recorders), took)}, Verified: v}, err
}

// strike kills the leader after a while, or asks for it.
func (j *job) strike(interrupted context.Context, victim *Node, leader string) {
	select {
	case <-time.After(killAfter):
	case <-interrupted.Done():
		return
	}
	for _, p := range j.publishers {
		p.gap.from(time.Now())
	}
	if victim == nil {
		j.o.ask("now kill the leader, %s (kill -9), within %v", leader, j.o.Duration-killAfter)
		return
	}
	j.o.say("killing the leader, %s", leader)
	victim.Kill()
}

// failoverRow makes the figures.
func (j *job) failoverRow(h *hdrhistogram.Histogram, took time.Duration) Row {
	row := Row{Name: string(Failover), histograms: map[string]*hdrhistogram.Histogram{"publish": h}}
	most, least := time.Duration(0), j.publishers[0].gap.length()
	for _, p := range j.publishers {
		most, least = max(most, p.gap.length()), min(least, p.gap.length())
	}
	row.Figures = append(row.Figures, Figure{"published", "messages", float64(h.TotalCount())}, Figure{"publish rate", "messages/s", float64(h.TotalCount()) / took.Seconds()},
		Figure{"without acknowledgement, most", "ms", millis(int64(most))}, Figure{"without acknowledgement, least", "ms", millis(int64(least))})
	row.Figures = append(row.Figures, latencyFigures("publish", h)...)
	return row
}

// leader is the id of the node that leads.
func (j *job) leader(ctx context.Context) (string, error) {
	info, err := j.admin.Cluster().Status(ctx)
	if err != nil {
		return "", fmt.Errorf("ask who leads: %w", err)
	}
	return info.Leader, nil
}
