package identity

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// HandshakeBytesMax is what a peer may send before its handshake is finished: a long chain
// of certificates with large names fits four times.
const HandshakeBytesMax = 64 << 10

// GuardConn bounds what is read from a connection until Open is called.
type GuardConn struct {
	net.Conn
	left atomic.Int64
}

// Guard wraps a connection that is about to shake hands.
func Guard(c net.Conn) *GuardConn {
	g := &GuardConn{Conn: c}
	g.left.Store(HandshakeBytesMax)
	return g
}

// Open lifts the bound: the handshake is finished.
func (g *GuardConn) Open() { g.left.Store(-1) }

func (g *GuardConn) Read(p []byte) (int, error) {
	left := g.left.Load()
	if left < 0 {
		return g.Conn.Read(p)
	}
	if left == 0 {
		return 0, fmt.Errorf("handshake: more than %d bytes before it was finished", HandshakeBytesMax)
	}
	n, err := g.Conn.Read(p[:min(int64(len(p)), left)])
	g.left.CompareAndSwap(left, left-int64(n))
	return n, err
}

// Drain reads what the other end sent before it knew that it is refused: closing over unread bytes would reset the
// connection, and it might never see why. Set a deadline before; it reads no more than HandshakeBytesMax.
func Drain(c io.Reader) {
	var sink [1024]byte
	for left := HandshakeBytesMax; left > 0; {
		n, err := c.Read(sink[:])
		if err != nil {
			return
		}
		left -= n
	}
}
