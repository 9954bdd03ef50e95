package peer

import "github.com/prometheus/client_golang/prometheus"

// metrics are the counters of the links, of all nodes together; what raft knows of each is in cluster/figures.go.
type metrics struct {
	links    prometheus.Gauge
	refusals *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		links:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_peer_links", Help: "Open links to other nodes, accepted and dialed."}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxwing_peer_refused_total", Help: "Links refused by this node, by reason."}, []string{"reason"}),
	}
	if r != nil {
		r.MustRegister(m.links, m.refusals)
	}
	return m
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }
