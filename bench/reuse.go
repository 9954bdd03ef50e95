package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/bench/handshake"
)

// Handshake publishes one record after the other in three ways: with a full handshake for each, with a resumed one for each, and over one
// connection; and compares bare connections with a server of crypto/tls alone.
const Handshake Scenario = "handshake"

// way is one way of connecting, a row of the result.
type way struct {
	name    string
	kex     handshake.Kex
	reuse   handshake.Reuse
	job     string   // what a connection is for
	servers []string // a worker goes from one to the next with each connection
	floor   string   // address of the floor to compare with, in turns; "" = none
}

// What a connection is for.
const (
	jobPublish = "publish" // HELLO, and one record
	jobConnect = "connect" // HELLO
	jobFloor   = "floor"   // one byte, to a server of crypto/tls
)

// reuse measures one way after the other.
type reuse struct {
	*job
	floorUsage func(context.Context) (Usage, error)
	rows       []Row
	acked      []uint64 // by stream
}

// runReuse measures all ways that the options name.
func runReuse(ctx context.Context, j *job, interrupted context.Context) (_ *RunOf, err error) {
	r := &reuse{job: j}
	ways, stop, err := r.ways(ctx, interrupted)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, w := range ways {
		if interrupted.Err() != nil {
			break
		}
		rows, err := r.measure(ctx, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		if interrupted.Err() == nil { // one that was cut short is compared with nothing
			r.rows = append(r.rows, rows...)
		}
	}
	if len(r.rows) == 0 {
		return nil, context.Cause(interrupted)
	}
	r.o.say("reading back, to verify")
	v, err := r.readBack(ctx, r.acked)
	return &RunOf{Rows: r.rows, Verified: v}, err
}

// ways lists what is measured, and starts the floor if the target has one.
func (r *reuse) ways(ctx, interrupted context.Context) (list []way, stop func() error, err error) {
	leader, all, err := r.servers(interrupted)
	if err != nil {
		return nil, nil, err
	}
	floor := ""
	stop = func() error { return nil }
	if r.target.Floor != nil {
		if floor, r.floorUsage, stop, err = r.target.Floor(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, kex := range r.o.Kex {
		for _, reuse := range r.o.Reuse {
			add := func(job, what string, servers []string, floor string) {
				list = append(list, way{fmt.Sprintf("%s %s %s", what, kex, reuse), kex, reuse, job, servers, floor})
			}
			add(jobPublish, "publish", leader, "")
			if reuse != handshake.Conn {
				add(jobConnect, "connect", leader, floor)
			}
			if reuse == handshake.Ticket && len(all) > 1 {
				add(jobConnect, "connect, other node,", all, "")
			}
		}
	}
	if len(all) > 1 {
		err = r.awaitTickets(interrupted, all)
	}
	if err != nil {
		err = errors.Join(err, stop())
	}
	return list, stop, err
}

// servers are the leader, to which records go, and all that share a name, between which a session may move.
func (r *reuse) servers(ctx context.Context) (leader, all []string, err error) {
	d, err := handshake.NewDialer(r.target.Client, handshake.PQ, false)
	if err != nil {
		return nil, nil, err
	}
	all = slices.Clone(r.target.Client.Servers)
	for i, s := range all {
		if _, _, err := net.SplitHostPort(s); err != nil {
			all[i] = net.JoinHostPort(s, "7420")
		}
	}
	l, err := d.Dial(ctx, all[0])
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	leader = all[:1]
	for i := range all {
		if all[i] == l.Welcome.Leader {
			leader = all[i : i+1]
		}
	}
	if !r.oneName(all) {
		all = leader
	}
	return leader, all, nil
}

// oneName says whether clients know all servers by one name: a session belongs to a name.
func (r *reuse) oneName(all []string) bool {
	first, _, _ := net.SplitHostPort(all[0]) // they have ports by now
	return r.target.Client.ServerName != "" || !slices.ContainsFunc(all, func(s string) bool {
		host, _, _ := net.SplitHostPort(s)
		return host != first
	})
}

// ticketPause is between two looks whether nodes share their ticket keys.
const ticketPause = 200 * time.Millisecond

// awaitTickets waits until each node resumes the sessions of the others: a new cluster needs a moment to make keys and share them.
func (r *reuse) awaitTickets(ctx context.Context, all []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Patience, errors.New("nodes do not resume each other's sessions: do clients know them by one name?"))
	defer cancel()
	d, err := handshake.NewDialer(r.target.Client, handshake.X25519, true)
	if err != nil {
		return err
	}
	r.o.say("waiting until nodes share their ticket keys")
	for resumed, n := 0, 0; resumed < 2*len(all); n++ {
		l, err := d.Dial(ctx, all[n%len(all)])
		if err != nil {
			return err
		}
		l.Close()
		if l.Resumed {
			resumed++
			continue
		}
		resumed = 0
		select {
		case <-time.After(ticketPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// How often a way and its floor take turns, so that what else the machine does meets both alike; and how long a turn is at least: processor
// time is read in steps of 10 ms.
const (
	turnsMax = 5
	turnMin  = 100 * time.Millisecond
)

// turns is how often, for a measured phase.
func (o *Options) turns() int {
	if o.Messages > 0 {
		return turnsMax
	}
	return int(min(max(o.Duration/turnMin, 1), turnsMax))
}

// measure measures one way, in turns with its floor if it has one.
func (r *reuse) measure(ctx context.Context, w way) (rows []Row, err error) {
	l, err := r.begin(ctx, w)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if w.floor == "" {
		if err := l.run(ctx, 1); err != nil {
			return nil, err
		}
		return []Row{l.row(nil)}, nil
	}
	floor, err := r.begin(ctx, way{"bare TLS" + strings.TrimPrefix(w.name, w.job), w.kex, w.reuse, jobFloor, []string{w.floor}, ""})
	if err != nil {
		return nil, err
	}
	defer floor.close()
	turns := r.o.turns()
	for range turns {
		if err := errors.Join(floor.run(ctx, turns), l.run(ctx, turns)); err != nil {
			return nil, err
		}
	}
	return []Row{floor.row(nil), l.row(floor)}, nil
}
