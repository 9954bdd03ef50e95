package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/waxwing-mq/waxwing/client"
)

// Connections opens many connections at once, looks at what idle ones cost, and, where it may, kills a node and waits until all its
// clients are back on others.
const Connections Scenario = "connections"

// idle is many clients that do nothing.
type idle struct {
	*job
	clients  []*idleClient
	recorder *recorder
}

// idleClient is one of them.
type idleClient struct {
	conn *client.Client
	back chan back // its reconnects

	mu     sync.Mutex
	server string // Guarded by mu. Where it is.
}

// back is one reconnect.
type back struct {
	at      time.Time
	resumed bool
}

// stormEvery is between two records that somebody publishes beside a storm.
const stormEvery = 5 * time.Millisecond

// openAtOnce is how many connections are on their way at once: a broker gives each of them 5 s, on a slow machine, too.
const openAtOnce = 100

// idleSteps is in how many steps connections are opened; memory is read before the first and after each.
const idleSteps = 5

// runIdle opens, weighs, and storms.
func runIdle(ctx context.Context, j *job, interrupted context.Context) (_ *RunOf, err error) {
	d := &idle{job: j, recorder: newRecorder()}
	defer func() { err = errors.Join(err, d.closeAll(ctx)) }()
	if err := j.addPublishers(interrupted, 1); err != nil {
		return nil, err
	}
	victim, err := d.victim(ctx)
	if err != nil {
		return nil, err
	}
	row, err := d.open(ctx, interrupted, victim)
	if err != nil {
		return nil, err
	}
	rows := []Row{row}
	if victim != nil && interrupted.Err() == nil {
		storm, err := d.storm(ctx, interrupted, victim)
		if err != nil {
			return nil, err
		}
		rows = append(rows, storm)
	}
	v, err := d.readBack(ctx, d.acknowledged())
	return &RunOf{Rows: rows, Verified: v}, err
}

// open opens connections in some steps, a hundred at once, and weighs them. Those of own brokers go to the one that will be killed.
func (d *idle) open(ctx, interrupted context.Context, victim *Node) (Row, error) {
	weighs := len(d.target.Nodes) > 0 && !d.target.OneProcess
	var opened []float64
	var weights []weight
	var took time.Duration
	for step := range idleSteps + 1 {
		if step > 0 {
			began := time.Now()
			if err := d.openTo(interrupted, d.o.Conns*step/idleSteps, victim); err != nil {
				return Row{}, err
			}
			took += time.Since(began)
		}
		if !weighs {
			continue
		}
		d.o.say("weighing %d connections", len(d.clients))
		w, err := d.weigh(ctx, interrupted)
		if err != nil {
			return Row{}, err
		}
		opened, weights = append(opened, float64(len(d.clients))), append(weights, w)
	}
	h := d.recorder.take()
	row := Row{Name: "open", histograms: map[string]*hdrhistogram.Histogram{"open": h}}
	row.Figures = append(row.Figures, Figure{"opened", "connections", float64(d.o.Conns)}, Figure{"open rate", "connections/s", float64(d.o.Conns) / took.Seconds()})
	row.Figures = append(row.Figures, latencyFigures("welcomed after", h)...)
	if weighs {
		row.Figures = append(row.Figures, weightFigures(opened, weights)...)
	}
	return row, nil
}

// openTo opens connections until there are so many.
func (d *idle) openTo(interrupted context.Context, count int, victim *Node) error {
	d.o.say("opening %d of %d connections", count, d.o.Conns)
	began, first := time.Now(), len(d.clients)
	list, errs := make([]*idleClient, count-first), make([]error, count-first)
	var opening sync.WaitGroup
	door := make(chan struct{}, openAtOnce)
	for i := range list {
		opening.Go(func() {
			door <- struct{}{}
			defer func() { <-door }()
			list[i], errs[i] = d.dialIdle(interrupted, d.serversFor(first+i, victim))
			d.recorder.record(time.Since(began))
		})
	}
	opening.Wait()
	for _, c := range list {
		if c != nil {
			d.clients = append(d.clients, c)
		}
	}
	if err := firstOfErrors(errs); err != nil {
		return fmt.Errorf("open %d connections: %w", d.o.Conns, err)
	}
	return nil
}

// serversFor are the servers of one client, in the order in which it shall try them: the one that will be killed first, and the others in turns.
func (d *idle) serversFor(n int, victim *Node) []string {
	all := slices.Clone(d.target.Client.Servers)
	if victim == nil {
		return append(all[n%len(all):], all[:n%len(all)]...)
	}
	others := slices.DeleteFunc(all, func(s string) bool { return s == victim.Addr })
	n %= len(others)
	return slices.Concat([]string{victim.Addr}, others[n:], others[:n])
}

func firstOfErrors(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// dialIdle opens one connection, at the first of servers that welcomes it.
func (d *idle) dialIdle(ctx context.Context, servers []string) (*idleClient, error) {
	c := &idleClient{back: make(chan back, 16)} // more than it will reconnect
	o := d.target.Client
	o.Servers = servers
	o.StayOnServer, o.Name = true, "waxwing bench"
	o.OnEvent = func(e client.Event) {
		if e, ok := e.(*client.ConnectedEvent); ok {
			c.mu.Lock()
			c.server = e.Server
			c.mu.Unlock()
			select {
			case c.back <- back{time.Now(), e.Resumed}:
			default:
			}
		}
	}
	var err error
	if c.conn, err = client.Dial(ctx, o); err != nil {
		return nil, err
	}
	select {
	case <-c.back: // the first one is no reconnect
		return c, nil
	case <-ctx.Done():
		return c, context.Cause(ctx)
	}
}

// victim is a node that may be killed, is not the leader, and leaves a majority; nil = there is none.
func (d *idle) victim(ctx context.Context) (*Node, error) {
	if len(d.target.Nodes) < 3 {
		return nil, nil
	}
	leader, err := d.leader(ctx)
	if err != nil {
		return nil, err
	}
	for i := range d.target.Nodes {
		if n := &d.target.Nodes[i]; n.Kill != nil && n.ID != leader {
			return n, nil
		}
	}
	return nil, nil
}

// storm kills a node, and waits until its clients are back, while somebody else publishes.
func (d *idle) storm(ctx, interrupted context.Context, victim *Node) (_ Row, err error) {
	p := d.publishers[0]
	d.o.say("publishing, nobody is killed")
	if _, err := d.publish(ctx, &phase{duration: d.o.Duration, every: stormEvery}); err != nil {
		return Row{}, err
	}
	quiet := p.recorder.take()
	var theirs []*idleClient
	for _, c := range d.clients {
		c.mu.Lock()
		if c.server == victim.Addr {
			theirs = append(theirs, c)
		}
		c.mu.Unlock()
	}
	d.o.say("killing %s, which has %d connections", victim.ID, len(theirs))
	during := make(chan error, 1)
	go func() {
		_, err := d.publish(ctx, &phase{duration: d.o.Duration, every: stormEvery})
		during <- err
	}()
	killed := time.Now()
	victim.Kill()
	resumed := 0
	for _, c := range theirs {
		select {
		case b := <-c.back:
			d.recorder.record(b.at.Sub(killed))
			if b.resumed {
				resumed++
			}
		case <-interrupted.Done():
			err = context.Cause(interrupted)
		case <-time.After(d.o.Patience):
			err = fmt.Errorf("after %v not all clients of %s are back", d.o.Patience, victim.ID)
		}
		if err != nil {
			break
		}
	}
	if err = errors.Join(<-during, err); err != nil {
		return Row{}, err
	}
	if victim.Restart != nil {
		if err := victim.Restart(ctx); err != nil {
			return Row{}, err
		}
	}
	h := d.recorder.take()
	row := Row{Name: "storm", histograms: map[string]*hdrhistogram.Histogram{"storm": h}}
	row.Figures = append(row.Figures, Figure{"clients of the killed node", "connections", float64(len(theirs))})
	row.Figures = append(row.Figures, latencyFigures("back after", h)...)
	row.Figures = append(row.Figures, Figure{"share resumed, client", "of 1", share(uint64(resumed), uint64(len(theirs)))})
	row.Figures = append(row.Figures, latencyFigures("publish of others before", quiet)...)
	row.Figures = append(row.Figures, latencyFigures("publish of others during", p.recorder.take())...)
	return row, nil
}

// closeAll closes the idle clients, together.
func (d *idle) closeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, c := range d.clients {
		closing.Go(func() { _ = c.conn.Close(ctx) }) // they have published nothing
	}
	closing.Wait()
	return nil
}
