package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// frameBytesMax caps a frame that a broker may send, whatever it announces.
const frameBytesMax = 64 << 20

// connect tries each server once and returns the first session.
func (c *Client) connect(ctx context.Context) (*session, error) {
	var errs []error
	for _, addr := range c.servers.order() {
		s, err := c.connectTo(ctx, addr)
		if err == nil {
			c.servers.welcomed(addr)
			c.hint(s.welcome.Leader)
			return s, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// connectTo makes one attempt: network, TLS, HELLO, WELCOME. TLS 1.3 lets a client
// believe in success before the broker has looked at its certificate, so nothing
// counts before WELCOME.
func (c *Client) connectTo(ctx context.Context, addr string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	raw, err := c.opts.Dialer(ctx, "tcp", addr)
	if err != nil {
		return nil, &ConnectError{Server: addr, Err: err}
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	s, err := c.shakeHands(ctx, raw, addr)
	if !stop() && err == nil {
		err = context.Cause(ctx) // the deadline is spoilt
	}
	if err != nil {
		raw.Close()
		return nil, connectFailed(addr, attemptError(ctx, err))
	}
	return s, nil
}

// attemptError prefers "it took too long" to the i/o error that the end of ctx caused.
func attemptError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w before WELCOME: %w", ErrTimeout, ctx.Err())
	}
	return ctx.Err()
}

func (c *Client) shakeHands(ctx context.Context, raw net.Conn, addr string) (*session, error) {
	conn, err := c.source.Handshake(ctx, raw, c.serverName(addr))
	if err != nil {
		return nil, err
	}
	hello := protocol.Hello{Versions: []uint64{protocol.Version}, Client: c.opts.Name}
	if c.opts.WithoutQuorum {
		hello.Features = []string{"no_quorum"}
	}
	_, writeErr := conn.Write(hello.AppendFrame(nil, 0))
	// Read even if that failed: the broker may have hung up, and its alert says why.
	frames := protocol.NewFrameReader(conn, frameBytesMax)
	welcome, err := readWelcome(frames, addr)
	if err != nil {
		return nil, errors.Join(err, writeErr)
	}
	return newSession(c, addr, conn, frames, welcome), nil
}

func newSession(c *Client, addr string, conn *tls.Conn, frames *protocol.FrameReader, w *protocol.Welcome) *session {
	now := time.Now()
	return &session{
		client: c, server: addr, conn: conn, state: conn.ConnectionState(), welcome: *w, frames: frames,
		born: now, lastHeard: now, number: c.sessions.Add(1),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		pending: make(map[uint64]func(protocol.Message, error)),
		subs:    make(map[uint64]*Subscription),
		pubs:    make(map[uint64]*pubBatch),
	}
}

// readWelcome waits for the broker's verdict.
func readWelcome(frames *protocol.FrameReader, addr string) (*protocol.Welcome, error) {
	body, err := frames.Next()
	if err != nil {
		return nil, fmt.Errorf("before WELCOME: %w", err)
	}
	_, m, err := protocol.Decode(body)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *protocol.Welcome:
		if m.Version != protocol.Version {
			return nil, &RefusedError{Server: addr, Code: protocol.CodeUnsupported, Identity: m.Identity,
				Text: fmt.Sprintf("the broker chose protocol version %d, this client speaks %d; upgrade the older of the two", m.Version, protocol.Version)}
		}
		return m, nil
	case *protocol.Refused:
		return nil, &RefusedError{Server: addr, Code: m.Code, Text: m.Text, Identity: m.Identity}
	}
	return nil, fmt.Errorf("the first frame is a %v, not WELCOME; is this a Waxwing client port?", m.Kind())
}

func (c *Client) serverName(addr string) string {
	if c.opts.ServerName != "" {
		return c.opts.ServerName
	}
	host, _, _ := net.SplitHostPort(addr) // checked in withDefaults
	return host
}
