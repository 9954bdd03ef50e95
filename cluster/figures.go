package cluster

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// figures are the metrics that are looked up when somebody asks for them.
type figures struct {
	g *Group

	leads, term, applyLag, leaderContact, peerContact, peerLag *prometheus.Desc
}

var _ prometheus.Collector = (*figures)(nil)

func newFigures(g *Group) *figures {
	return &figures{g: g,
		leads:         prometheus.NewDesc("waxwing_raft_leader", "1 while this node leads.", nil, nil),
		term:          prometheus.NewDesc("waxwing_raft_term", "Term of the raft group: each election is a new one.", nil, nil),
		applyLag:      prometheus.NewDesc("waxwing_raft_apply_lag_entries", "Entries that are committed, as far as this node knows, and not applied here.", nil, nil),
		leaderContact: prometheus.NewDesc("waxwing_raft_leader_contact_seconds", "Time since this node heard from the leader; 0 on the leader.", nil, nil),
		peerContact:   prometheus.NewDesc("waxwing_raft_peer_contact_seconds", "On the leader: time since a node has answered.", []string{"peer"}, nil),
		peerLag:       prometheus.NewDesc("waxwing_raft_peer_lag_entries", "On the leader: entries that a node did not have in its log when it last answered.", []string{"peer"}, nil),
	}
}

// Describe lists them.
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.leads, f.term, f.applyLag, f.leaderContact, f.peerContact, f.peerLag} {
		ch <- d
	}
}

// Collect looks them up. There are none before raft has started.
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	g := f.g
	select {
	case <-g.started:
	default:
		return
	}
	if g.raft == nil {
		return
	}
	leads := g.raft.State() == raft.Leader
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(f.term, float64(g.raft.CurrentTerm()))
	committed, applied := g.lastCommand(g.raft.CommitIndex()), g.fsm.applied()
	gauge(f.applyLag, float64(max(committed, applied)-applied))
	if !leads {
		gauge(f.leads, 0)
		gauge(f.leaderContact, since(g.raft.LastContact(), g.opened))
		return
	}
	gauge(f.leads, 1)
	gauge(f.leaderContact, 0)
	last := g.raft.LastIndex()
	for _, s := range g.servers() {
		if node := string(s.ID); node != g.options.NodeID && g.contacts != nil {
			c := g.contacts.of(node)
			gauge(f.peerContact, since(c.at, g.opened), node)
			gauge(f.peerLag, float64(max(last, c.last)-c.last), node)
		}
	}
}

// since is the time since at or, if that never was, since the start.
func since(at, start time.Time) float64 {
	if at.IsZero() {
		at = start
	}
	return time.Since(at).Seconds()
}
