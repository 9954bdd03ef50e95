package bench_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/bench/handshake"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// shakesOf reads what a broker counts.
func shakesOf(registry *prometheus.Registry) func(context.Context) (full, resumed uint64, err error) {
	return func(context.Context) (full, resumed uint64, err error) {
		families, err := registry.Gather()
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() != "waxwing_handshakes_total" {
					continue
				}
				if n := uint64(m.GetCounter().GetValue()); m.GetLabel()[0].GetValue() == "full" {
					full = n
				} else {
					resumed = n
				}
			}
		}
		return full, resumed, err
	}
}

// TestHandshakeShares counts handshakes at both ends: with nothing kept none is resumed, with tickets all are, over one connection there are
// none; and the floor, with the same certificates, agrees.
func TestHandshakeShares(t *testing.T) {
	limits := broker.DefaultLimits()
	limits.HandshakesPerSecond, limits.ConnectsPerSecond = 1_000_000, 1_000_000
	n := brokertest.Start(t, brokertest.Options{Limits: limits})
	f, own := n.PKI.ClientFiles("bench"), n.PKI.Save("n1", n.PKI.Broker("n1"))
	target := &bench.Target{Name: "a node", OneProcess: true, SameMachine: true, Client: client.Options{Servers: []string{n.Addr}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, DialTimeout: time.Minute}}
	target.Nodes = []bench.Node{{ID: "n1", Usage: func(context.Context) (bench.Usage, error) { return bench.Usage{}, nil }, Handshakes: shakesOf(n.Registry)}}
	target.Floor = func(context.Context) (string, func(context.Context) (bench.Usage, error), func() error, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := handshake.ServeFloor(ctx, l, own.Cert, own.Key, own.CA); err != nil {
				t.Error(err)
			}
		})
		return l.Addr().String(), target.Nodes[0].Usage, func() error { cancel(); serving.Wait(); return nil }, err
	}
	o := bench.Defaults(bench.Handshake)
	o.Messages, o.Warmup, o.Conns = 50, 0, 2
	o.Kex = lane.Pick([]handshake.Kex{handshake.PQ}, []handshake.Kex{handshake.PQ, handshake.X25519, handshake.P256}, []handshake.Kex{handshake.PQ, handshake.X25519, handshake.P256})
	r, err := bench.Run(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bench.Row{}
	for _, row := range r.Runs[0].Rows {
		rows[row.Name] = row
	}
	if len(rows) != len(o.Kex)*7 {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	for name, row := range rows {
		get := func(figure string) float64 {
			f, ok := row.Get(figure)
			if !ok {
				t.Errorf("%s: no figure %q in %+v", name, figure, row.Figures)
			}
			return f.Value
		}
		var what, kex, reuse string
		if f := strings.Fields(name); len(f) == 4 {
			what, kex, reuse = "bare TLS", f[2], f[3]
		} else {
			what, kex, reuse = f[0], f[1], f[2]
		}
		want := map[string]float64{"none": 0, "ticket": 1}[reuse]
		switch {
		case reuse == "conn":
			if get("handshakes") != 0 || get("published") != 50 {
				t.Errorf("%+v", row)
			}
			continue
		case get("handshakes") != 50 || get("share resumed, client") != want:
			t.Errorf("%s %s: %+v, want share %v", kex, what, row.Figures, want)
		}
		if what == "bare TLS" {
			continue
		}
		if get("share resumed, WELCOME") != want || get("share resumed, metrics") != want || get("full, metrics") != 50*(1-want) || get("resumed, metrics") != 50*want {
			t.Errorf("%s: %+v, want share %v", name, row.Figures, want)
		}
		if sent, received := get("bytes sent"), get("bytes received"); sent < 500 || received < 500 || kex == "pq" && sent < 1184 { // the key of ML-KEM-768 alone
			t.Errorf("%s: %v bytes sent, %v received", name, sent, received)
		}
	}
}
