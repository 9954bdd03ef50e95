package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/snapshot"
)

// TestNodeSnapshot saves a snapshot through the client, and checks all of it.
func TestNodeSnapshot(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dialNode(t, nodeOptions(n, "orders"))
	const records = 5000
	publishMany(t, c, records)
	var file bytes.Buffer
	var told, about uint64
	saved, err := c.SaveSnapshot(t.Context(), &file, client.SnapshotOptions{Progress: func(b, a uint64) { told, about = b, a }})
	if err != nil {
		t.Fatal(err)
	}
	if told != uint64(file.Len()) || about < told || saved.Bytes != told {
		t.Errorf("%d bytes, told %d of %d, %+v", file.Len(), told, about, saved)
	}
	report, err := cluster.VerifySnapshot(t.Context(), &file)
	if err != nil {
		t.Fatal(err)
	}
	h := &report.Head
	if saved.SHA256 != report.Digest || saved.Index != h.Index || saved.Records != records || report.Contents.Records != records || saved.Node != "n1" || saved.Cluster != h.Cluster || saved.Cluster != c.Welcome().Cluster || saved.Taken.UnixMilli() != h.TimeMs {
		t.Errorf("saved %+v, verified %+v", saved, report)
	}
}

// errWriter fails after some bytes.
type errWriter struct {
	left int
	err  error
	do   func()
}

func (w *errWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		w.do()
		return 0, w.err
	}
	return len(p), nil
}

// endingConn is a connection that ends as one does whose other end went away.
type endingConn struct {
	net.Conn
	ended atomic.Bool
}

func (c *endingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.ended.Load() {
		err = io.EOF
	}
	return n, err
}

func (c *endingConn) Write(p []byte) (int, error) {
	if c.ended.Load() { // the kernel takes it all the same
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *endingConn) end() {
	c.ended.Store(true)
	c.Conn.Close()
}

// TestNodeSnapshotLost: a connection that ends in the middle is not called a damaged snapshot.
func TestNodeSnapshotLost(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	publishMany(t, dialNode(t, nodeOptions(n, "orders")), 50_000) // several parts
	opts := nodeOptions(n, "admin")
	conns := make(chan *endingConn, 8)
	opts.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		e := &endingConn{Conn: conn}
		conns <- e
		return e, err
	}
	c := dialNode(t, opts)
	first := <-conns
	var once sync.Once
	_, err := c.SaveSnapshot(t.Context(), io.Discard, client.SnapshotOptions{Progress: func(uint64, uint64) { once.Do(first.end) }})
	if err == nil || errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// TestNodeSnapshotEnds: without the right, with a writer that fails, with a context that ends and with a lost connection there
// is an error, and the broker has its place back.
func TestNodeSnapshotEnds(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("orders", "publish", "\">\"")})
	if _, err := dialNode(t, nodeOptions(n, "orders")).SaveSnapshot(t.Context(), io.Discard, client.SnapshotOptions{}); !errors.Is(err, client.ErrDenied) {
		t.Errorf("without the right: %v", err)
	}
	c := dialNode(t, nodeOptions(n, "admin"))
	if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	for range 4 { // several parts
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: make([]byte, 900<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	full := errors.New("full")
	for range 3 { // more than there are places
		if _, err := c.SaveSnapshot(t.Context(), &errWriter{1000, full, func() {}}, client.SnapshotOptions{}); !errors.Is(err, full) {
			t.Errorf("a writer that fails: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.SaveSnapshot(ctx, &errWriter{1000, nil, cancel}, client.SnapshotOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that ended: %v", err)
		}
		cancel()
	}
	if _, err := c.SaveSnapshot(t.Context(), io.Discard, client.SnapshotOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.SaveSnapshot(t.Context(), &errWriter{1000, io.ErrClosedPipe, n.Close}, client.SnapshotOptions{}); err == nil {
		t.Error("a snapshot is whole although the broker stopped")
	}
}
