package cluster_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// benchForwarder makes a node that forwards to g, over mutual TLS on loopback.
func benchForwarder(b *testing.B, g *cluster.Group) *cluster.Forwarder {
	b.Helper()
	pki := identitytest.New(b)
	in := cluster.NewIntake(cluster.IntakeOptions{Propose: g.Propose, Lead: func() error { return nil }, Fresh: func() (cluster.Judged, uint64) { return cluster.Judged{}, 0 }})
	member := func(*protocol.PeerHello) error { return nil }
	there := peer.New(peer.Options{Node: "n1", Identity: pki.Source("n1"), Member: member, Handlers: map[peer.Key]func(*peer.Conn){cluster.ForwardLink: in.Handle}})
	here := peer.New(peer.Options{Node: "n2", Identity: pki.Source("n2"), Member: member})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	f := cluster.NewForwarder(cluster.ForwarderOptions{Links: here})
	f.SetLeader(cluster.Leader{Node: "n1", Address: l.Addr().String()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- there.Serve(ctx, l) }()
	go func() { done <- f.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(there.Shutdown(context.Background()), here.Shutdown(context.Background()), <-done, <-done); err != nil {
			b.Error(err)
		}
	})
	return f
}

// BenchmarkForward compares publishing through the leader with publishing through a node that forwards: one batch at a
// time, and 256 in flight. A batch has 64 records of 256 bytes.
func BenchmarkForward(b *testing.B) {
	for _, mode := range []string{"direct", "forwarded"} {
		for _, inFlight := range []int{1, 256} {
			name := map[int]string{1: "one", 256: "many"}[inFlight]
			b.Run(mode+"/"+name, func(b *testing.B) {
				n := clustertest.Start(b, b.TempDir())
				part := createTopic(b, n.Group, "orders")
				submit := n.Group.Propose
				if mode == "forwarded" {
					f := benchForwarder(b, n.Group)
					submit = func(cmd []byte, done cluster.Done) { f.Submit(cluster.Judged{}, cmd, done) }
				}
				benchPublish(b, part, inFlight, submit)
			})
		}
	}
}

func benchPublish(b *testing.B, part topic.PartitionID, inFlight int, submit func([]byte, cluster.Done)) {
	const perBatch = 64
	bodies := make([][]byte, perBatch)
	for i := range bodies {
		bodies[i] = make([]byte, 256)
	}
	// 256 batches in flight are more than the 64 that one producer may have: each has a producer of its own.
	room := make(chan struct{}, inFlight)
	failed := make(chan error, 1)
	sequence := make([]uint64, inFlight)
	i := 0
	for b.Loop() {
		room <- struct{}{}
		who := i % inFlight
		cmd := publish(part, byte(who), sequence[who], bodies...)
		sequence[who] += perBatch
		i++
		submit(cmd, func(r state.Result, _ uint64, err error) {
			if err != nil || r.Status != state.StatusOK {
				select {
				case failed <- errors.Join(err, errors.New(r.Text)):
				default:
				}
			}
			<-room
		})
	}
	for range inFlight {
		room <- struct{}{}
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	b.ReportMetric(float64(b.N*perBatch)/b.Elapsed().Seconds(), "records/s")
}
