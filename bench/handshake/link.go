package handshake

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// linkTimeout bounds a connection: the broker answers by then or is no use.
const linkTimeout = 2 * time.Minute

// frameBytesMax bounds a frame from the broker: answers to what is sent here are small.
const frameBytesMax = 1 << 20

// Dialer opens connections with one key exchange. It keeps the latest session if it shall; then it is for one goroutine.
type Dialer struct {
	source   *identity.ClientSource
	name     string // that the broker's certificate must have; "" = the host of its address
	curve    tls.CurveID
	sessions tls.ClientSessionCache
}

// NewDialer reads the client's files.
func NewDialer(o client.Options, kex Kex, resume bool) (*Dialer, error) {
	source, err := identity.OpenClient(identity.ClientOptions{CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile, CertPEM: o.CertPEM, KeyPEM: o.KeyPEM, CAPEM: o.CAPEM, TrustDomain: o.TrustDomain})
	if err != nil {
		return nil, err
	}
	d := &Dialer{source: source, name: o.ServerName, curve: curves[kex]}
	if resume {
		d.sessions = tls.NewLRUClientSessionCache(1)
	}
	return d, nil
}

// Another is a dialer of the same identity, with sessions of its own.
func (d *Dialer) Another() *Dialer {
	other := *d
	if d.sessions != nil {
		other.sessions = tls.NewLRUClientSessionCache(1)
	}
	return &other
}

// Link is one connection. It is for one goroutine.
type Link struct {
	Welcome        protocol.Welcome // empty for the floor
	Resumed        bool             // as this side sees it
	Sent, Received int64            // bytes of TCP payload until WELCOME, the ticket among them

	conn   *tls.Conn
	frames *protocol.FrameReader
	next   uint64
}

// counted counts what goes through a connection.
type counted struct {
	net.Conn
	sent, received int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received += int64(n)
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent += int64(n)
	return n, err
}

// shake connects and shakes hands.
func (d *Dialer) shake(ctx context.Context, addr string) (*tls.Conn, *counted, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	c := &counted{Conn: raw}
	_ = c.SetDeadline(time.Now().Add(linkTimeout)) // fails on a closed one only
	name := d.name
	if name == "" {
		name, _, _ = net.SplitHostPort(addr) // it was dialed
	}
	conf := d.source.Config(name)
	conf.CurvePreferences, conf.ClientSessionCache = []tls.CurveID{d.curve}, d.sessions
	conn := tls.Client(c, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, nil, err
	}
	return conn, c, nil
}

// Dial connects to a broker and returns once it has welcomed the client.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Link, error) {
	conn, raw, err := d.shake(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	l := &Link{conn: conn, frames: protocol.NewFrameReader(conn, frameBytesMax), Resumed: conn.ConnectionState().DidResume}
	m, err := l.ask(&protocol.Hello{Versions: []uint64{protocol.Version}, Client: "waxwing bench handshake"})
	if err == nil {
		w, ok := m.(*protocol.Welcome)
		if ok {
			l.Welcome, l.Sent, l.Received = *w, raw.sent, raw.received
			return l, nil
		}
		err = unexpected(m)
	}
	conn.Close()
	return nil, fmt.Errorf("connect to %s: %w", addr, err)
}

// ask sends a request and reads its answer; events in between are passed over.
func (l *Link) ask(m protocol.Message) (protocol.Message, error) {
	l.next++
	if _, err := l.conn.Write(m.AppendFrame(nil, l.next)); err != nil {
		return nil, err
	}
	for {
		body, err := l.frames.Next()
		if err != nil {
			return nil, err
		}
		_, answer, err := protocol.Decode(body)
		if err != nil {
			return nil, err
		}
		if _, ok := answer.(*protocol.Event); !ok {
			return answer, nil
		}
	}
}

// unexpected is an answer that is not the one wanted, in words.
func unexpected(m protocol.Message) error {
	switch m := m.(type) {
	case *protocol.Refused:
		return fmt.Errorf("refused: %v: %s", m.Code, m.Text)
	case *protocol.Error:
		return fmt.Errorf("%v: %s", m.Code, m.Text)
	}
	return fmt.Errorf("answered with %v", m.Kind())
}

// Producer numbers the records of one stream, over all its connections.
type Producer struct {
	ID        [16]byte
	Topic     string
	Partition uint32
	next      uint64
	blob      []byte
}

// Publish publishes one record and waits until it is acknowledged.
func (l *Link) Publish(p *Producer, body []byte) error {
	_ = l.conn.SetDeadline(time.Now().Add(linkTimeout)) // fails on a closed one only
	p.blob = batch.AppendRecord(p.blob[:0], &batch.Record{Body: body})
	m, err := l.ask(&protocol.Publish{Topic: p.Topic, Partition: p.Partition, Producer: p.ID, Sequence: p.next, Count: 1, Records: p.blob})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if _, ok := m.(*protocol.Published); !ok {
		return fmt.Errorf("publish: %w", unexpected(m))
	}
	p.next++
	return nil
}

// Close ends the connection.
func (l *Link) Close() { _ = l.conn.Close() } // everything was answered
