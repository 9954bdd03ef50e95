package cluster_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// createTopic makes a topic and returns its first partition.
func createTopic(t testing.TB, g *cluster.Group, name topic.Name) topic.PartitionID {
	t.Helper()
	cmd := state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: state.Spec{Partitions: 1}, By: "test"})
	r, _, err := g.Do(t.Context(), cmd)
	if err != nil || r.Status != state.StatusOK {
		t.Fatalf("create topic: %+v, %v", r, err)
	}
	return r.Topic.Partitions[0]
}

// publish encodes a publish command of records.
func publish(p topic.PartitionID, producer byte, sequence uint64, bodies ...[]byte) []byte {
	var blob []byte
	for _, b := range bodies {
		blob = batch.AppendRecord(blob, &batch.Record{Body: b})
	}
	info, err := batch.Scan(blob, batch.DefaultLimits())
	if err != nil {
		panic(err)
	}
	return state.AppendPublish(nil, &state.Publish{Partition: p, Producer: [16]byte{producer}, Sequence: sequence, Info: info, Principal: "spiffe://td/client/a", Records: blob})
}

// TestAcknowledgedSurvivesRestart publishes, stops, starts again, and reads everything back.
func TestAcknowledgedSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	n, err := clustertest.Open(t.Context(), dir, func(err error) { t.Errorf("fail-stop: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	p := createTopic(t, n.Group, "orders")
	const batches = 50
	for i := range batches {
		r, _, err := n.Group.Do(t.Context(), publish(p, 1, uint64(2*i), fmt.Append(nil, "a", i), fmt.Append(nil, "b", i)))
		if err != nil || r.Status != state.StatusOK || r.Offset != topic.Offset(2*i) {
			t.Fatalf("publish %d: %+v, %v", i, r, err)
		}
	}
	id := n.Group.View().ClusterID()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n = clustertest.Start(t, dir)
	if got := n.Group.View().ClusterID(); got != id || got == "" {
		t.Errorf("cluster id %q, was %q", got, id)
	}
	data, next, records, err := n.Log.Read(p, 0, 1<<20, nil)
	if err != nil || next != 2*batches || records != 2*batches {
		t.Fatalf("read to %d, %d records, %v", next, records, err)
	}
	checkBodies(t, data)
	r, _, err := n.Group.Do(t.Context(), publish(p, 1, 2*batches-2, fmt.Append(nil, "a", batches-1), fmt.Append(nil, "b", batches-1)))
	if err != nil || r.Status != state.StatusDuplicate || r.Offset != 2*batches-2 {
		t.Errorf("repeat after the restart: %+v, %v", r, err)
	}
}

// checkBodies compares with what TestAcknowledgedSurvivesRestart published.
func checkBodies(t *testing.T, data []byte) {
	t.Helper()
	var b batch.Batch
	for len(data) > 0 {
		rest, err := batch.Parse(data, &b)
		if err != nil {
			t.Fatal(err)
		}
		data = rest
		c := batch.Records(b.Records)
		var r batch.Record
		for i := b.Base; c.Next(&r); i++ {
			if want := fmt.Sprintf("%c%d", 'a'+i%2, i/2); string(r.Body) != want {
				t.Errorf("offset %d: %q, want %q", i, r.Body, want)
			}
		}
	}
}

func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			n := clustertest.Start(b, b.TempDir())
			p := createTopic(b, n.Group, "bench")
			records := size / 256
			bodies := make([][]byte, records)
			for i := range bodies {
				bodies[i] = bytes.Repeat([]byte{'x'}, 250)
			}
			window := make(chan struct{}, 32)
			var wg sync.WaitGroup
			sequence := uint64(0)
			b.SetBytes(int64(size))
			for b.Loop() {
				cmd := publish(p, 1, sequence, bodies...)
				sequence += uint64(records)
				window <- struct{}{}
				wg.Add(1)
				n.Group.Propose(cmd, func(r state.Result, _ uint64, err error) {
					if err != nil || r.Status != state.StatusOK {
						b.Errorf("%+v, %v", r, err)
					}
					<-window
					wg.Done()
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)*float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestShutdownAnswersEverything stops a group under load, many times: Run ends, and every command gets
// exactly one answer.
func TestShutdownAnswersEverything(t *testing.T) {
	for range lane.Pick(5, 40, 200) {
		n, err := clustertest.Open(t.Context(), t.TempDir(), func(err error) { t.Errorf("fail-stop: %v", err) })
		if err != nil {
			t.Fatal(err)
		}
		p := createTopic(t, n.Group, "orders")
		var answers sync.WaitGroup
		var acked atomic.Int64
		reached := make(chan struct{})
		stop := make(chan struct{})
		var producers sync.WaitGroup
		for i := range 4 {
			producers.Go(func() {
				for sequence := uint64(0); ; sequence++ {
					select {
					case <-stop:
						return
					default:
					}
					answers.Add(1)
					n.Group.Propose(publish(p, byte(i), sequence, []byte("x")), func(_ state.Result, _ uint64, err error) {
						defer answers.Done()
						if err == nil && acked.Add(1) == 100 {
							close(reached)
						}
					})
				}
			})
		}
		<-reached
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		close(stop)
		producers.Wait()
		answers.Wait()
	}
}
