package bench_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

const (
	fillTopics   = 100
	fillBody     = 16 << 10
	fillRecords  = 16 // of a batch: 256 KiB
	fillInFlight = 32
	segmentMiB   = 256
	activeMiB    = 250 // of the active segment that a start has to replay

)

// BenchmarkSealed fills a data folder with -sealed MiB in sealed segments and an active segment that is nearly full, and
// measures a broker, a process of its own, on it: the time from its start until it serves, with the files in the page
// cache and without, and its anonymous memory while it publishes at full load with every segment open.
func BenchmarkSealed(b *testing.B) {
	s := newSite(b, *sealedMiB*3/2+4*segmentMiB)
	data := filepath.Join(s.dir, "data")
	fill(b, data)
	config := s.config(b, data, "log: {format: json}")
	b.Run("start", func(b *testing.B) { s.benchmarkStart(b, config, func() {}) })
	b.Run("startcold", func(b *testing.B) { s.benchmarkStart(b, config, func() { forget(b, data) }) })
	b.Run("memory", func(b *testing.B) { s.benchmarkMemory(b, config) })
}

// benchmarkStart starts a broker again and again, each time on what kill -9 left.
func (s *site) benchmarkStart(b *testing.B, config string, prepare func()) {
	var took []time.Duration
	var replayed string
	for b.Loop() {
		b.StopTimer()
		prepare()
		b.StartTimer()
		p, d := s.start(b, config)
		took = append(took, d)
		b.StopTimer()
		replayed = logLine(p.Log(), "log replayed")
		p.Kill()
		b.StartTimer()
	}
	b.Log(replayed)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took).Seconds(), "s/start")
}

// benchmarkMemory reads one topic through all segments, so that all are open, and then publishes 256-byte records as
// fast as one client can.
func (s *site) benchmarkMemory(b *testing.B, config string) {
	p, _ := s.start(b, config)
	c := s.dial(b, p)
	read := 0
	err := c.SubscribeFunc(b.Context(), client.SubscribeOptions{Topics: []string{fillTopic(0)}, From: client.Earliest(), StopAtEnd: true}, func(*client.Message) error { read++; return nil })
	if err != nil {
		b.Fatal(err)
	}
	most, idle := 0.0, rssAnon(b, p.PID())
	ctx, stop := context.WithTimeout(b.Context(), *loadFor)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			most = max(most, rssAnon(b, p.PID()))
			<-tick.C
		}
	})
	records := 0
	begin := time.Now()
	for b.Loop() { // once: the load has its own length
		body := make([]byte, recordBytes)
		for ctx.Err() == nil {
			for range 1000 {
				c.PublishAsync(b.Context(), "bench.memory", client.Record{Body: body})
			}
			records += 1000
		}
		if err := c.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(records)/time.Since(begin).Seconds(), "records/s")
	watch.Wait()
	b.ReportMetric(idle, "MiB-anon-before")
	b.ReportMetric(most, "MiB-anon-peak")
}

func fillTopic(n int) string { return fmt.Sprintf("bench.fill.%d", n) }

// fill makes the data folder in this process, without the way through TLS.
func fill(b *testing.B, dir string) {
	b.Helper()
	n, err := clustertest.Open(b.Context(), dir, func(err error) { b.Errorf("fail-stop: %v", err) })
	if err != nil {
		b.Fatal(err)
	}
	f := filler{b: b, n: n, slots: make(chan struct{}, fillInFlight), records: fillBlob()}
	for i := range fillTopics {
		cmd := state.AppendCreateTopic(nil, &state.CreateTopic{Name: topic.Name(fillTopic(i)), Spec: state.Spec{Partitions: 1}, By: "bench"})
		r, _, err := n.Group.Do(b.Context(), cmd)
		if err != nil || r.Status != state.StatusOK {
			b.Fatalf("create topic: %+v, %v", r, err)
		}
		f.partitions = append(f.partitions, r.Topic.Partitions[0])
	}
	for range (*sealedMiB + segmentMiB - 1) / segmentMiB {
		f.publish(segmentMiB - 4)
		if err := n.Group.Rotate(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	f.publish(activeMiB)
	if err := errors.Join(n.Log.WaitSealed(b.Context(), n.Group.View().Segment()-1), n.Stop()); err != nil {
		b.Fatal(err)
	}
}

// fillBlob is the records of a batch.
func fillBlob() (blob []byte) {
	body := make([]byte, fillBody)
	_, _ = rand.Read(body)
	for range fillRecords {
		blob = batch.AppendRecord(blob, &batch.Record{Body: body})
	}
	return blob
}

type filler struct {
	b          *testing.B
	n          *clustertest.Node
	slots      chan struct{}
	records    []byte
	partitions []topic.PartitionID
	sent       int
}

// publish publishes so many MiB, over all topics in turn, and waits for the last.
func (f *filler) publish(mib int) {
	f.b.Helper()
	info := batch.Info{Count: fillRecords}
	var failed error
	var mu sync.Mutex
	for range mib << 20 / len(f.records) {
		f.slots <- struct{}{}
		cmd := state.AppendPublish(nil, &state.Publish{Partition: f.partitions[f.sent%fillTopics], Producer: [16]byte{1}, Sequence: uint64(f.sent/fillTopics) * fillRecords,
			Info: info, Principal: "spiffe://test.example/client/bench", Records: f.records})
		f.sent++
		f.n.Group.Propose(cmd, func(r state.Result, _ uint64, err error) {
			if err == nil && r.Status != state.StatusOK {
				err = fmt.Errorf("publish: %+v", r)
			}
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
			<-f.slots
		})
	}
	for range fillInFlight {
		f.slots <- struct{}{}
	}
	for range fillInFlight {
		<-f.slots
	}
	if failed != nil {
		f.b.Fatal(failed)
	}
}

// forget drops every file below dir from the page cache.
func forget(b *testing.B, dir string) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
	if err != nil {
		b.Fatal(err)
	}
}
