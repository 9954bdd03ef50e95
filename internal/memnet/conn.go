package memnet

import (
	"net"
	"sync"
	"time"
)

// conn is one end of a connection.
type conn struct {
	in, out         *buffer
	readBy, writeBy *deadline
	local, remote   addr
	once            sync.Once
}

// Pipe returns two connected ends.
func Pipe() (net.Conn, net.Conn) { return pipe("pipe-a", "pipe-b") }

func pipe(a, b addr) (net.Conn, net.Conn) {
	x, y := newBuffer(), newBuffer()
	return newConn(x, y, a, b), newConn(y, x, b, a)
}

func newConn(in, out *buffer, local, remote addr) *conn {
	return &conn{in: in, out: out, readBy: newDeadline(), writeBy: newDeadline(), local: local, remote: remote}
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p, c.readBy) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p, c.writeBy) }

// Close ends both directions; the peer reads what was written, then io.EOF.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.end(false)
		c.in.end(true)
	})
	return nil
}

// CloseWrite ends the outgoing direction only.
func (c *conn) CloseWrite() error {
	c.out.end(false)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}

// addr names an end.
type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }
