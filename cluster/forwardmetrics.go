package cluster

import "github.com/prometheus/client_golang/prometheus"

// forwardMetrics are the counters of a node that forwards.
type forwardMetrics struct {
	sent, unknown, rejected prometheus.Counter
}

func newForwardMetrics(r prometheus.Registerer) *forwardMetrics {
	m := &forwardMetrics{
		sent:     prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_forward_sent_total", Help: "Commands that this node sent to the leader."}),
		unknown:  prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_forward_unknown_total", Help: "Commands that were sent to the leader and not answered when the link ended."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_forward_rejected_total", Help: "Commands that were never sent: no leader in time, or the node stops."}),
	}
	if r != nil {
		r.MustRegister(m.sent, m.unknown, m.rejected)
	}
	return m
}
