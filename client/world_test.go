package client_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/memnet"
)

// world is a fake broker, a network to it that can be cut, and a way to dial.
type world struct {
	t       testing.TB
	ca      *testCA
	network *memnet.Network
	broker  *fakeBroker
	options client.Options

	mu    sync.Mutex
	wrap  func(net.Conn) net.Conn // guarded by mu
	dials int                     // guarded by mu
}

func newWorld(t testing.TB) *world {
	ca, serverTLS, options := newPKI(t)
	w := &world{t: t, ca: ca, network: new(memnet.Network), options: options}
	w.broker = startFake(t, w.network, serverTLS)
	w.options.Dialer = w.dialContext
	return w
}

func (w *world) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := w.network.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials++
	if w.wrap != nil {
		return w.wrap(conn), nil
	}
	return conn, nil
}

func (w *world) wrapConns(wrap func(net.Conn) net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrap = wrap
}

// dial connects and closes at the end of the test.
func (w *world) dial(change ...func(*client.Options)) *client.Client {
	w.t.Helper()
	opts := w.options
	for _, f := range change {
		f(&opts)
	}
	c, err := client.Dial(context.Background(), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// fuse is a connection that breaks after some bytes have gone either way.
type fuse struct {
	net.Conn
	mu   sync.Mutex
	left int // guarded by mu
}

func (f *fuse) burn(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= n; f.left <= 0 {
		f.Conn.Close()
	}
}

func (f *fuse) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	f.burn(n)
	return n, err
}

func (f *fuse) Write(b []byte) (int, error) {
	n, err := f.Conn.Write(b)
	f.burn(n)
	return n, err
}

// body is what record i says.
func body(i int) []byte { return fmt.Appendf(nil, "record %06d", i) }

// wantRecords checks that a partition holds records 0 to n-1 once and in order.
func (w *world) wantRecords(topic string, n int) {
	w.t.Helper()
	got := w.broker.records(topic, 0)
	for i := range min(n, len(got)) {
		if want := string(body(i)); got[i] != want {
			w.t.Fatalf("record %d of %d is %q, want %q", i, len(got), got[i], want)
		}
	}
	if len(got) != n {
		w.t.Fatalf("%d records are stored, want %d", len(got), n)
	}
}
