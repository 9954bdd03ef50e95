package broker_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestO01Handshakes stalls as many handshakes as may be under way: one more is turned away at once, clients that are
// connected go on, and the places are free again after the deadline.
func TestO01Handshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(l *broker.Limits) { l.HandshakesAtOnce = 4 })
		good := n.Dial(t, "good")
		start := time.Now()
		var stalled []net.Conn
		for range 4 {
			synctest.Wait() // whoever shook hands has given the place back
			stalled = append(stalled, knock(t, network))
		}
		synctest.Wait()
		fifth := knock(t, network)
		if got, err := io.ReadAll(fifth); len(got) > 0 || time.Since(start) > 0 {
			t.Errorf("one more: %q, %v after %v", got, err, time.Since(start))
		}
		if m := good.Publish("t", 0, "x"); m.Kind() != protocol.KindPublished {
			t.Errorf("a connected client: %#v", m)
		}
		for _, c := range stalled { // the deadline ends them
			io.Copy(io.Discard, c)
		}
		if held := time.Since(start); held != 5*time.Second {
			t.Errorf("the stalled ones were held for %v", held)
		}
		synctest.Wait()
		n.Dial(t, "late")
	})
}

// knock connects and says nothing.
func knock(t *testing.T, network *memnet.Network) net.Conn {
	t.Helper()
	c, err := network.DialContext(t.Context(), "tcp", bubbleAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestO01HandshakesPerSecond begins handshakes faster than they may begin: what is too much is turned away and counted.
func TestO01HandshakesPerSecond(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.HandshakesPerSecond = 1 })
	conf := n.PKI.ClientConfig(n.PKI.Client("c"), identity.ALPNClient)
	for range 1000 {
		c, err := tls.Dial("tcp", n.Addr, conf)
		if err != nil {
			break
		}
		c.Close()
	}
	const reason = "limit_handshakes_per_second"
	if counted(t, n, "waxwing_refused_total", reason) == 0 {
		t.Errorf("waxwing_refused_total{reason=%q} did not count", reason)
	}
}

// TestO03StoppedReaderIsCut takes nothing of what it has asked for until the broker cuts it, and says so in log and metric.
func TestO03StoppedReaderIsCut(t *testing.T) {
	lane.Need(t, 2, "O-03") // it waits for the broker's own 30 s
	t.Parallel()
	cut := make(chan string, 1)
	n := brokertest.Start(t, brokertest.Options{Logger: slog.New(slog.NewJSONHandler(writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("client cut: it takes nothing")) {
			cut <- string(p)
		}
		return len(p), nil
	}), nil))})
	publishMany(t, dial(t, n, "publisher"), "hot", 32, 1<<20-1000)
	r := n.Dial(t, "slow")
	r.Send(&protocol.Subscribe{Sub: 1, Patterns: []string{"hot"}, Start: protocol.StartEarliest, CreditBytes: 1 << 40, CreditRecords: 1 << 40})
	if line := <-cut; !strings.Contains(line, `/client/slow"`) {
		t.Errorf("the log does not say who: %s", line)
	}
	if counted(t, n, "waxwing_limit_reached_total", "write_timeout") != 1 {
		t.Error("the metric did not count")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestT13HelloMustCome gives the broker a handshake and then nothing, or half a frame.
func TestT13HelloMustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := inBubble(t, func(*broker.Limits) {})
		for name, bytes := range map[string]string{"nothing": "", "half a frame": "\x00\x00\x00\x20\x95"} {
			r := n.Connect(t, n.PKI.Client("slow"))
			io.WriteString(r, bytes)
			start := time.Now()
			if last := r.WaitEnd(); brokertest.Code(last) != protocol.CodeMalformed || time.Since(start) != 5*time.Second {
				t.Errorf("%s: ended with %#v after %v", name, last, time.Since(start))
			}
		}
	})
}

// TestMetricsAreClean asks promlint about every metric of the broker.
func TestMetricsAreClean(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	r := n.Dial(t, "c")
	r.Publish("t", 0, "x")
	families, err := n.Registry.Gather()
	if err != nil || len(families) < 8 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
