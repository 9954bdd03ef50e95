package broker

import "github.com/prometheus/client_golang/prometheus"

// metrics are the broker's counters. No identity and no topic is a label: their number is
// the clients' choice.
type metrics struct {
	connections   prometheus.Gauge
	subscriptions prometheus.Gauge
	handshakes    *prometheus.CounterVec
	refusals      *prometheus.CounterVec
	requests      *prometheus.CounterVec
	faults        *prometheus.CounterVec
	limits        *prometheus.CounterVec
	published     prometheus.Counter
	publishedB    prometheus.Counter
	delivered     prometheus.Counter
	deliveredB    prometheus.Counter
	denied        *prometheus.CounterVec
	snapshots     prometheus.GaugeFunc
	snapshotBytes prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		connections:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_connections", Help: "Client connections that were welcomed."}),
		subscriptions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_subscriptions", Help: "Open subscriptions."}),
		handshakes:    vector("waxwing_handshakes_total", "Finished client handshakes, by kind.", "kind"),
		refusals:      vector("waxwing_refused_total", "Connections refused before WELCOME, by reason.", "reason"),
		requests:      vector("waxwing_requests_total", "Requests, by frame kind.", "kind"),
		faults:        vector("waxwing_errors_total", "Requests answered with an error, by code.", "code"),
		limits:        vector("waxwing_limit_reached_total", "Requests and connections refused by a limit, by its key.", "limit"),
		published:     counter("waxwing_published_records_total", "Records acknowledged to publishers."),
		publishedB:    counter("waxwing_published_bytes_total", "Bytes of records acknowledged to publishers."),
		delivered:     counter("waxwing_delivered_records_total", "Records sent to subscribers."),
		deliveredB:    counter("waxwing_delivered_bytes_total", "Bytes of batches sent to subscribers."),
		denied:        vector("waxwing_denied_total", "Requests denied by policy, by verb.", "verb"),
		snapshots: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_snapshots", Help: "Open snapshots: what is in them keeps its disk space."},
			func() float64 { return float64(len(s.snapshots)) }),
		snapshotBytes: counter("waxwing_snapshot_bytes_total", "Bytes of snapshots sent."),
	}
	if r != nil {
		r.MustRegister(m.connections, m.subscriptions, m.handshakes, m.refusals, m.requests, m.faults, m.limits, m.published, m.publishedB, m.delivered, m.deliveredB, m.denied, m.snapshots, m.snapshotBytes)
	}
	return m
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

// failed counts a fault.
func (m *metrics) failed(f *fault) {
	m.faults.WithLabelValues(f.code.String()).Inc()
	if f.limit != "" {
		m.limits.WithLabelValues(f.limit).Inc()
	}
}
