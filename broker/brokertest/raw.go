package brokertest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Raw is a connection that speaks frames and nothing else: for what a good client never does.
// It is for one goroutine.
type Raw struct {
	*tls.Conn
	Welcome *protocol.Welcome

	t      testing.TB
	frames *protocol.FrameReader
	next   uint64
}

// rawTimeout bounds each read: a broker that says nothing fails the test instead of hanging it.
const rawTimeout = time.Minute

// Connect shakes hands with a certificate and sends nothing.
func (n *Node) Connect(t testing.TB, cert *ca.Issued) *Raw {
	t.Helper()
	r, err := n.connect(t, n.PKI.ClientConfig(cert, identity.ALPNClient))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ConnectWith is Connect with a config, for sessions that are kept.
func (n *Node) ConnectWith(t testing.TB, conf *tls.Config) *Raw {
	t.Helper()
	r, err := n.connect(t, conf)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *Node) connect(t testing.TB, conf *tls.Config) (*Raw, error) {
	raw, err := n.dial(t.Context(), "tcp", n.Addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(t.Context()); err != nil {
		return nil, err
	}
	return &Raw{Conn: c, t: t, frames: protocol.NewFrameReader(c, 4<<20)}, nil
}

// Dial connects as a client and says HELLO.
func (n *Node) Dial(t testing.TB, name string) *Raw {
	t.Helper()
	r := n.Connect(t, n.PKI.Client(name))
	r.Hello()
	return r
}

// Hello says HELLO and reads WELCOME.
func (r *Raw) Hello() {
	r.t.Helper()
	r.Send(&protocol.Hello{Versions: []uint64{protocol.Version}, Client: "raw"})
	m := r.Receive()
	w, ok := m.(*protocol.Welcome)
	if !ok {
		r.t.Fatalf("HELLO was answered with %#v", m)
	}
	r.Welcome = w
}

// Send sends a frame and returns its request id.
func (r *Raw) Send(m protocol.Message) uint64 {
	r.t.Helper()
	r.next++
	if _, err := r.Write(m.AppendFrame(nil, r.next)); err != nil {
		r.t.Fatal(err)
	}
	return r.next
}

// Receive reads the next frame.
func (r *Raw) Receive() protocol.Message {
	r.t.Helper()
	m, err := r.Read1()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// Read1 reads the next frame, or how the connection ended.
func (r *Raw) Read1() (protocol.Message, error) {
	r.SetReadDeadline(time.Now().Add(rawTimeout))
	body, err := r.frames.Next()
	if err != nil {
		return nil, err
	}
	_, m, err := protocol.Decode(append([]byte(nil), body...))
	return m, err
}

// Ask sends a request and returns its answer; events and deliveries in between are passed over.
func (r *Raw) Ask(m protocol.Message) protocol.Message {
	r.t.Helper()
	r.Send(m)
	for {
		switch got := r.Receive().(type) {
		case *protocol.Event, *protocol.Deliver:
		default:
			return got
		}
	}
}

// Publish publishes one record and returns the answer.
func (r *Raw) Publish(topicName string, sequence uint64, body string) protocol.Message {
	r.t.Helper()
	return r.Ask(PublishOf(topicName, sequence, body))
}

// PublishOf is a frame with one record.
func PublishOf(topicName string, sequence uint64, body string) *protocol.Publish {
	return &protocol.Publish{Topic: topicName, Producer: [16]byte{1}, Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: []byte(body)})}
}

// Flood publishes without reading an answer until the connection ends. It may run beside a reader.
func (r *Raw) Flood(topicName string) {
	for sequence := uint64(0); ; sequence++ {
		m := protocol.Publish{Topic: topicName, Producer: [16]byte{2}, Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: []byte("flood")})}
		if _, err := r.Write(m.AppendFrame(nil, sequence+1)); err != nil {
			return
		}
	}
}

// WaitEnd reads until the connection ends and returns the last frame before it.
func (r *Raw) WaitEnd() (last protocol.Message) {
	r.t.Helper()
	for {
		m, err := r.Read1()
		if err == nil {
			last = m
			continue
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			r.t.Fatalf("the broker keeps the connection; last frame %#v", last)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && last == nil {
			r.t.Logf("ended with %v", err)
		}
		return last
	}
}

// Code is the code of an ERROR, REFUSED or closing EVENT, else 0.
func Code(m protocol.Message) protocol.Code {
	switch m := m.(type) {
	case *protocol.Error:
		return m.Code
	case *protocol.Refused:
		return m.Code
	case *protocol.Event:
		return m.Code
	}
	return 0
}

// Apply replaces the policy through the log, as an admin's client would.
func (n *Node) Apply(t testing.TB, doc string) {
	t.Helper()
	admin := n.Dial(t, "admin")
	defer admin.Close()
	version := n.Group.View().Policy().Version
	if m := admin.Ask(&protocol.PolicyApply{Expect: version, Force: true, Document: []byte(doc)}); Code(m) != 0 {
		t.Fatalf("apply policy: %#v", m)
	}
}
