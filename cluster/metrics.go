package cluster

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the group's counters.
type metrics struct {
	fsync    prometheus.Histogram
	entries  prometheus.Counter
	bytes    prometheus.Counter
	commands prometheus.Counter
	commit   prometheus.Histogram
	queue    prometheus.Gauge
	stalls   prometheus.Counter
	installs prometheus.Counter
	hints    prometheus.Counter
	tickets  prometheus.Gauge

	divergent  prometheus.Gauge
	roundTrip  prometheus.Histogram
	sentBytes  prometheus.Counter
	unanswered prometheus.Counter
	reads      *prometheus.CounterVec // by result
}

func newMetrics(r prometheus.Registerer) *metrics {
	buckets := prometheus.ExponentialBuckets(100e-6, 2, 16) // 0.1 ms to 3.3 s
	m := &metrics{
		fsync:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waxwing_raft_append_seconds", Help: "Time to append to the raft log, fsync included.", Buckets: buckets}),
		entries:  prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_entries_total", Help: "Entries appended to the raft log."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_appended_bytes_total", Help: "Bytes of entries appended to the raft log."}),
		commands: prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_commands_total", Help: "Commands proposed; many share an entry."}),
		commit:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waxwing_raft_commit_seconds", Help: "Time from proposing an entry to having applied it.", Buckets: buckets}),
		queue:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_raft_queue_bytes", Help: "Commands that wait to be proposed."}),
		stalls:   prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_stalls_total", Help: "Times that a write of the raft log took over 5 s."}),
	}
	m.installs = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_installs_total", Help: "Times that this node was too far behind and took the leader's segments."})
	m.hints = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_hints_total", Help: "Times that this node asked early to be elected, because the leader had closed its links."})
	m.tickets = prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_tls_ticket_keys", Help: "The cluster's ticket keys that this node has opened; 0 = its sessions resume on itself only."})
	m.divergent = prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxwing_cluster_divergent_segments", Help: "Sealed segments that hold other batches here than on another node, at the last comparison: one of the nodes is wrong."})
	m.roundTrip = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waxwing_raft_peer_roundtrip_seconds", Help: "Time from sending entries or a heartbeat to another node to its answer, its fsync included.", Buckets: buckets})
	m.sentBytes = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_peer_sent_bytes_total", Help: "Bytes of entries that other nodes have answered."})
	m.unanswered = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_raft_peer_failures_total", Help: "Requests to other nodes that were not answered."})
	m.reads = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxwing_read_index_total", Help: "Searches for the index of linearizable reads, by result. Many reads share one."}, []string{"result"})
	for _, result := range []string{"found", "failed"} {
		m.reads.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.reads, m.divergent, m.roundTrip, m.sentBytes, m.unanswered, m.stalls, m.installs, m.hints, m.tickets, m.fsync, m.entries, m.bytes, m.commands, m.commit, m.queue)
	}
	return m
}

func (m *metrics) appended(ls []*raft.Log, took time.Duration) {
	m.fsync.Observe(took.Seconds())
	m.entries.Add(float64(len(ls)))
	for _, l := range ls {
		m.bytes.Add(float64(len(l.Data)))
	}
}
