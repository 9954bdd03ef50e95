package storage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the log's counters.
type metrics struct {
	bytes, values prometheus.Counter
	coldReads     prometheus.Counter
	damaged       prometheus.Counter
	scrubbed      prometheus.Counter
	checks        prometheus.Counter
	seals         prometheus.Counter
	received      prometheus.Counter
	deleted       prometheus.Counter
	repaired      prometheus.Counter
	sealSeconds   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, l *Log) metrics {
	tail := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_tail_bytes", Help: "Memory of the newest batches."},
		func() float64 { return float64(l.cache.size()) })
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_queue_bytes", Help: "Batches that Badger does not have yet."},
		func() float64 { return float64(l.queue.size()) })
	m := metrics{
		bytes:     prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_written_bytes_total", Help: "Bytes written to Badger."}),
		values:    prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_written_values_total", Help: "Values written to Badger."}),
		coldReads: prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_cold_reads_total", Help: "Reads that the tail in memory could not answer."}),
	}
	m.damaged = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_damaged_reads_total", Help: "Reads that met damaged or missing data."})
	m.scrubbed = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_scrubbed_bytes_total", Help: "Bytes of sealed segments that were read again to check them."})
	m.checks = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_scrubbed_segments_total", Help: "Sealed segments that were read again whole."})
	bad := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_damaged_segments", Help: "Sealed segments that are known to be damaged."},
		func() float64 { return float64(l.ScrubStatus().Damaged) })
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_scrub_oldest_seconds", Help: "Time since the sealed segment was read whole that waits longest for it."},
		func() float64 { return l.ScrubStatus().age().Seconds() })
	m.seals = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_sealed_segments_total", Help: "Segments sealed since the start."})
	m.received = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_received_bytes_total", Help: "Bytes of sealed segments that were fetched from other nodes."})
	m.deleted = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_deleted_segments_total", Help: "Segments deleted since the start: nothing in them was readable, or they were merged into another."})
	m.repaired = prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_storage_repaired_segments_total", Help: "Segments that were fetched from other nodes in the place of damaged or missing ones."})
	m.sealSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waxwing_storage_seal_seconds", Help: "Time from a cut segment to a sealed one, read-back included.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)})
	segments := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_segments", Help: "Segments on disk, the active one included."},
		func() float64 { return float64(len(l.set.segments())) })
	free := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_free_bytes", Help: "Free space of the file system that holds the data."},
		func() float64 { return float64(l.Space().Free) })
	guard := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_guard_bytes", Help: "Free space below which publishes are refused."},
		func() float64 { return float64(l.Space().Guard) })
	full := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waxwing_storage_full", Help: "1 while publishes are refused because the disk is below its guard."},
		func() float64 {
			if l.Space().Full() {
				return 1
			}
			return 0
		})
	if r != nil {
		r.MustRegister(guard, full, tail, queue, segments, free, bad, oldest, m.scrubbed, m.checks, m.bytes, m.values, m.coldReads, m.damaged, m.seals, m.received, m.deleted, m.repaired, m.sealSeconds)
	}
	return m
}

func (m *metrics) written(size int) {
	m.bytes.Add(float64(size))
	m.values.Inc()
}

func (m *metrics) cold() { m.coldReads.Inc() }

func (m *metrics) sealed(_ *Manifest, took time.Duration) {
	m.seals.Inc()
	m.sealSeconds.Observe(took.Seconds())
}
