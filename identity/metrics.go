package identity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a Source's counters.
type metrics struct {
	refusals *prometheus.CounterVec
	reloads  *prometheus.CounterVec
	notAfter prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxwing_tls_refused_total", Help: "Handshakes and certificates refused, by listener and reason."}, []string{"listener", "reason"}),
		reloads:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxwing_tls_reloads_total", Help: "Reloads of certificate files, by result."}, []string{"result"}),
		notAfter: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_tls_certificate_expiry_seconds", Help: "When the node's certificate ends, as unix time."}),
	}
	if r != nil {
		r.MustRegister(m.refusals, m.reloads, m.notAfter)
	}
	return m
}

func (m *metrics) refused(side Side, why Reason) {
	m.refusals.WithLabelValues(side.String(), string(why)).Inc()
}

func (m *metrics) reloaded(err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.reloads.WithLabelValues(result).Inc()
}

func (m *metrics) expires(at time.Time) { m.notAfter.Set(float64(at.Unix())) }
