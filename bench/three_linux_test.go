package bench_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// BenchmarkThreeNodes publishes 256-byte records to one partition that three broker processes replicate; each record is acknowledged
// when two of them have fsynced it. The nodes and the client share this machine, all over mutual TLS, and the client is connected to the leader.
// An operation is one whole run; run five or more, the figures are medians, the log has all. pipelined/N: N connections with as much
// in flight as the client's window allows. one: one record at a time. steady: 1,000 records a second at even times to a subscriber, timed from
// when each was due. CPU-seconds are those of the three nodes, for a million records.
func BenchmarkThreeNodes(b *testing.B) {
	s := &replicated{trio: newTrio(b, 8192)}
	s.lead = s.leader()
	for _, conns := range []int{1, 8} {
		b.Run(fmt.Sprintf("pipelined/%d", conns), func(b *testing.B) { s.pipelined(b, conns, 2_000_000) })
	}
	b.Run("one", func(b *testing.B) { s.oneAtATime(b, 5_000) })
	b.Run("steady", func(b *testing.B) { s.steady(b, 10*time.Second) })
}

// replicated is three brokers and their leader.
type replicated struct {
	*trio
	lead int
}

// dialLeader connects a client to the leader, until the benchmark ends.
func (s *replicated) dialLeader(b *testing.B) *client.Client {
	b.Helper()
	c := s.dial(b, s.lead)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	if at := c.Welcome().Leader; at != s.address(s.lead, 17420) {
		b.Fatalf("leadership has moved to %s", at)
	}
	return c
}

// newTopic makes a topic of one partition of its own for a run.
func (s *replicated) newTopic(b *testing.B, c *client.Client) string {
	b.Helper()
	s.topics++
	name := fmt.Sprintf("bench.three.%d", s.topics)
	if _, err := c.Topics().Create(b.Context(), name, client.TopicSpec{MaxBytes: 64 << 20}); err != nil {
		b.Fatal(err)
	}
	return name
}

// cpuSeconds is what the nodes have used.
func (s *replicated) cpuSeconds(b *testing.B) (sum float64) {
	b.Helper()
	for _, p := range s.nodes {
		sum += processSeconds(b, p.PID())
	}
	return sum
}

func (s *replicated) pipelined(b *testing.B, conns, records int) {
	clients := make([]*client.Client, conns)
	for i := range clients {
		clients[i] = s.dialLeader(b)
	}
	var rates, cpus []float64
	body := make([]byte, recordBytes)
	for b.Loop() {
		name := s.newTopic(b, clients[0])
		begin, used := time.Now(), s.cpuSeconds(b)
		var publishing sync.WaitGroup
		for _, c := range clients {
			publishing.Go(func() {
				for range records / conns {
					c.PublishAsync(b.Context(), name, client.Record{Body: body})
				}
				if err := c.Flush(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		publishing.Wait()
		took := time.Since(begin).Seconds()
		rates, cpus = append(rates, float64(records)/took), append(cpus, (s.cpuSeconds(b)-used)/float64(records)*1e6)
		ack, err := clients[0].Publish(b.Context(), name, client.Record{Body: body})
		if err != nil || ack.Offset != int64(records) {
			b.Fatalf("the next record: %+v, %v", ack, err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "records/s")
	b.ReportMetric(median(cpus), "cpu-s/million")
	b.Logf("records/s %.0f, CPU-seconds per million %.2f", rates, cpus)
}

func (s *replicated) oneAtATime(b *testing.B, records int) {
	c := s.dialLeader(b)
	name := s.newTopic(b, c)
	body := make([]byte, recordBytes)
	var rates, p50s, p99s []float64
	for b.Loop() {
		waits := make([]time.Duration, records)
		begin := time.Now()
		for i := range waits {
			sent := time.Now()
			if _, err := c.Publish(b.Context(), name, client.Record{Body: body}); err != nil {
				b.Fatal(err)
			}
			waits[i] = time.Since(sent)
		}
		rates = append(rates, float64(records)/time.Since(begin).Seconds())
		p50s, p99s = append(p50s, ms(at(waits, 0.5))), append(p99s, ms(at(waits, 0.99)))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates), "records/s")
	b.ReportMetric(median(p50s), "p50-ms")
	b.ReportMetric(median(p99s), "p99-ms")
	b.Logf("records/s %.0f, p50 %.2f ms, p99 %.2f ms", rates, p50s, p99s)
}

func (s *replicated) steady(b *testing.B, d time.Duration) {
	const every = time.Millisecond
	publisher, reader := s.dialLeader(b), s.dialLeader(b)
	var p50s, p99s []float64
	for b.Loop() {
		name := s.newTopic(b, publisher)
		sub, err := reader.Subscribe(b.Context(), client.SubscribeOptions{Topics: []string{name}, From: client.Earliest()})
		if err != nil {
			b.Fatal(err)
		}
		waits := make([]time.Duration, d/every)
		begin := time.Now()
		read := make(chan error, 1)
		go func() {
			defer sub.Close()
			n := 0
			for m, err := range sub.Messages() {
				if err != nil {
					read <- err
					return
				}
				if due := binary.BigEndian.Uint64(m.Body); due != uint64(n) {
					read <- fmt.Errorf("record %d came as number %d", due, n)
					return
				}
				waits[n] = time.Since(begin.Add(time.Duration(n) * every))
				if n++; n == len(waits) {
					read <- nil
					return
				}
			}
			read <- errors.New("the subscription ended")
		}()
		tick := time.NewTicker(every)
		for i := 0; i < len(waits); {
			<-tick.C
			for ; i < len(waits) && time.Since(begin) >= time.Duration(i)*every; i++ {
				body := make([]byte, recordBytes)
				binary.BigEndian.PutUint64(body, uint64(i))
				publisher.PublishAsync(b.Context(), name, client.Record{Body: body})
			}
		}
		tick.Stop()
		if err := <-read; err != nil {
			b.Fatal(err)
		}
		p50s, p99s = append(p50s, ms(at(waits, 0.5))), append(p99s, ms(at(waits, 0.99)))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(p50s), "p50-ms")
	b.ReportMetric(median(p99s), "p99-ms")
	b.Logf("p50 %.2f ms, p99 %.2f ms", p50s, p99s)
}
