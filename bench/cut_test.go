package bench_test

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
)

var (
	cutShare  = flag.Float64("share", 0.5, "load of BenchmarkCuts, of full load")
	cutPeriod = flag.Duration("period", 5*time.Second, "how long BenchmarkCuts finds full load, and then publishes with and without cuts")
)

const (
	cutTick  = time.Millisecond
	cutEvery = 500 * time.Millisecond
)

// BenchmarkCuts is one client that publishes at half of full load, in turns with and without a segment cut and sealed
// twice a second. An operation is a -period of each. Full load is measured before, over a -period in which segments
// are cut as well: less time finds the speed of buffers. It reports how long publishes waited for their acknowledgement,
// counted from when they were due; cut-max-ms is the longest of those that were under way while a segment was cut, from
// the proposal until it was applied, seal-max-ms while one was sealed behind that, other-max-ms of the rest beside cuts. No cut should
// cost a publish more than 50 ms.
func BenchmarkCuts(b *testing.B) {
	n := brokertest.Start(b, brokertest.Options{})
	p := &pacer{b: b, n: n, c: dial(b, n, "bench"), body: make([]byte, recordBytes)}
	burst := int(p.fullLoad() * *cutShare / float64(time.Second/cutTick))
	var none, cut waits
	for b.Loop() {
		none.add(p.period(burst, false))
		cut.add(p.period(burst, true))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(burst)*float64(time.Second/cutTick), "records/s")
	none.report(b, "none")
	cut.report(b, "cuts")
	b.ReportMetric(ms(cut.longest(func(w *wait) bool { return w.cut })), "cut-max-ms")
	b.ReportMetric(ms(cut.longest(func(w *wait) bool { return !w.cut && w.seal })), "seal-max-ms")
	b.ReportMetric(ms(cut.longest(func(w *wait) bool { return !w.cut && !w.seal })), "other-max-ms")
}

// wait is one publish.
type wait struct {
	due, done time.Time
	cut, seal bool // it was under way while a segment was cut, or sealed
}

func (w *wait) took() time.Duration { return w.done.Sub(w.due) }

func (w *wait) overlaps(s span) bool { return w.due.Before(s.end) && s.begin.Before(w.done) }

type span struct{ begin, end time.Time }

type waits []wait

func (ws *waits) add(more waits) { *ws = append(*ws, more...) }

// report reports the waits that half, one in a hundred, one in a thousand, and none exceed.
func (ws waits) report(b *testing.B, name string) {
	took := make([]time.Duration, len(ws))
	for i := range ws {
		took[i] = ws[i].took()
	}
	slices.Sort(took)
	at := func(perMille int) float64 { return ms(took[min(len(took)*perMille/1000, len(took)-1)]) }
	b.ReportMetric(at(500), name+"-p50-ms")
	b.ReportMetric(at(990), name+"-p99-ms")
	b.ReportMetric(at(999), name+"-p99.9-ms")
	b.ReportMetric(at(1000), name+"-max-ms")
}

func (ws waits) longest(which func(*wait) bool) (took time.Duration) {
	for i := range ws {
		if which(&ws[i]) {
			took = max(took, ws[i].took())
		}
	}
	return took
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// pacer publishes to a node in this process.
type pacer struct {
	b    *testing.B
	n    *brokertest.Node
	c    *client.Client
	body []byte
}

// publish publishes some records and returns the last one's future.
func (p *pacer) publish(records int) (last *client.Future) {
	for range records {
		last = p.c.PublishAsync(p.b.Context(), "bench.cut", client.Record{Body: p.body})
	}
	return last
}

// fullLoad is how many records a second one client gets acknowledged while segments are cut.
func (p *pacer) fullLoad() float64 {
	p.b.Helper()
	stop := p.cutAll(new([]span), new([]span))
	defer stop()
	records, begin := 0, time.Now()
	for time.Since(begin) < *cutPeriod {
		p.publish(1000)
		records += 1000
	}
	if err := p.c.Flush(p.b.Context()); err != nil {
		p.b.Fatal(err)
	}
	return float64(records) / time.Since(begin).Seconds()
}

// period publishes a burst each tick, whatever becomes of those before; the last record of each is timed from the moment
// it was due.
func (p *pacer) period(burst int, cuts bool) (all waits) {
	type sent struct {
		due  time.Time
		last *client.Future
	}
	var cut, seal []span
	stop := func() {}
	if cuts {
		stop = p.cutAll(&cut, &seal)
	}
	flying := make(chan sent, *cutPeriod/cutTick+1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range flying {
			if _, err := s.last.Wait(context.Background()); err != nil {
				p.b.Error(err)
			}
			all = append(all, wait{due: s.due, done: time.Now()})
		}
	})
	due := time.Now()
	for end := due.Add(*cutPeriod); due.Before(end); due = due.Add(cutTick) {
		time.Sleep(time.Until(due))
		flying <- sent{due, p.publish(burst)}
	}
	close(flying)
	wg.Wait()
	stop()
	for i := range all {
		w := &all[i]
		w.cut, w.seal = slices.ContainsFunc(cut, w.overlaps), slices.ContainsFunc(seal, w.overlaps)
	}
	return all
}

// cutAll cuts the active segment now and then until stop is called, and notes when it did, and how long the sealer then took.
func (p *pacer) cutAll(cut, seal *[]span) (stop func()) {
	ctx, cancel := context.WithCancel(p.b.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(cutEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			number, begin := p.n.Group.View().Segment(), time.Now()
			if err := p.n.Group.Rotate(p.b.Context()); err != nil {
				p.b.Error(err)
				return
			}
			applied := time.Now()
			if err := p.n.Log.WaitSealed(p.b.Context(), number); err != nil {
				p.b.Error(err)
				return
			}
			*cut = append(*cut, span{begin, applied})
			*seal = append(*seal, span{applied, time.Now()})
		}
	})
	return func() { cancel(); wg.Wait() }
}
