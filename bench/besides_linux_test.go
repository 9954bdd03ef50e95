package bench_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// BenchmarkPublishBesides publishes -pair MiB of 256-byte records, pipelined, to a broker that cuts and seals four
// segments meanwhile, holds the topic to a quarter of that and merges what is left, and scrubs without a pause; and to one that does none of
// it. An operation is one such pair, in random order, each on new data. Run five or more: the figures are medians.
// CPU-seconds per GB of bodies are the broker's; cpus-elsewhere is what the rest of the machine used meanwhile, threads of the kernel
// included: if it differs from what it is on a quiet machine, the rates mean little.
func BenchmarkPublishBesides(b *testing.B) {
	if *pairMiB > 900 {
		b.Fatal("-pair: at most 900, or the one without rotation would rotate")
	}
	s := newSite(b, 4**pairMiB+1024)
	s.publishBesides(b, false) // the first one pays for memory that nobody had before
	var ratio []float64
	var with, without flow
	for b.Loop() {
		var pair [2]load
		first := rand.IntN(2)
		for _, i := range []int{first, 1 - first} {
			pair[i] = s.publishBesides(b, i == 1)
		}
		without.add(pair[0])
		with.add(pair[1])
		ratio = append(ratio, pair[1].rate/pair[0].rate)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratio), "ratio")
	b.Logf("ratios %.2f", ratio)
	with.report(b, "-with")
	without.report(b, "-without")
}

// load is what a run used: records a second, CPU-seconds of the broker per GB of bodies, CPUs that others kept busy.
type load struct{ rate, cpu, elsewhere float64 }

type flow struct{ rate, cpu, elsewhere []float64 }

func (f *flow) add(l load) {
	f.rate, f.cpu, f.elsewhere = append(f.rate, l.rate), append(f.cpu, l.cpu), append(f.elsewhere, l.elsewhere)
}

func (f *flow) report(b *testing.B, which string) {
	b.ReportMetric(median(f.rate), "records/s"+which)
	b.ReportMetric(median(f.cpu), "cpu-s/GB"+which)
	b.ReportMetric(median(f.elsewhere), "cpus-elsewhere"+which)
	b.Logf("%s: records/s %.0f, CPU-seconds per GB %.2f, CPUs elsewhere %.2f", which[1:], f.rate, f.cpu, f.elsewhere)
}

// publishBesides measures one broker on an empty folder, and takes the folder away.
func (s *site) publishBesides(b *testing.B, besides bool) load {
	b.Helper()
	data := filepath.Join(s.dir, "pair")
	storage, spec := "storage: {segment_bytes: 1073741824, segment_age: 24h, retention_interval: 24h}", client.TopicSpec{}
	if besides {
		storage = fmt.Sprintf("storage: {segment_bytes: %d, retention_interval: 1s, scrub_interval: 1s, scrub_bytes_per_second: 33554432}", *pairMiB<<20/4)
		spec.MaxBytes = uint64(*pairMiB << 20 / 4)
	}
	p, _ := s.start(b, s.config(b, data, storage))
	defer os.RemoveAll(data)
	defer p.Kill()
	c := s.dial(b, p)
	if _, err := c.Topics().Create(b.Context(), "bench.besides", spec); err != nil {
		b.Fatal(err)
	}
	body := make([]byte, recordBytes)
	records := int(*pairMiB << 20 / recordBytes)
	begin, broker, own, all := time.Now(), processSeconds(b, p.PID()), processSeconds(b, os.Getpid()), machineSeconds(b)
	var last *client.Future
	for range records {
		last = c.PublishAsync(b.Context(), "bench.besides", client.Record{Body: body})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin).Seconds()
	broker, own, all = processSeconds(b, p.PID())-broker, processSeconds(b, os.Getpid())-own, machineSeconds(b)-all
	if ack, err := last.Wait(b.Context()); err != nil || ack.Offset != int64(records)-1 {
		b.Fatalf("the last record: %+v, %v", ack, err)
	}
	if sealed := strings.Count(p.Log(), `"segment sealed"`); besides != (sealed > 0) {
		b.Fatalf("%d segments were sealed", sealed)
	}
	return load{float64(records) / took, broker / (float64(records) * recordBytes / 1e9), (all - broker - own) / took}
}
