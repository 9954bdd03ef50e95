package peer

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Conn is an open link: who is at the other end was checked by both. It ends with the certificate of the other node.
type Conn struct {
	net.Conn
	links    *Links
	peer     identity.Peer
	hello    *protocol.PeerHello // what the other node said of itself
	key      Key
	accepted bool        // Guarded by Links.mu. Counted in Links.accepted.
	expiry   *time.Timer // Guarded by Links.mu. nil until it is registered.
	once     sync.Once
	closeErr error
}

func newConn(l *Links, t *tls.Conn, peer identity.Peer, hello *protocol.PeerHello) *Conn {
	return &Conn{Conn: t, links: l, peer: peer, hello: hello, key: Key{hello.Group, hello.Purpose}}
}

func (c *Conn) expire() {
	c.links.log.Warn("peer link ended: the certificate has expired", "peer", c.Node())
	c.Close()
}

// Node is the id of the node at the other end, as its certificate has it.
func (c *Conn) Node() string { return c.peer.Node }

// Key is what the link is for.
func (c *Conn) Key() Key { return c.key }

// Hello is what the other node said of itself; From and To are checked. Nobody may change it.
func (c *Conn) Hello() *protocol.PeerHello { return c.hello }

// Close ends the link. It may be called by several.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.links.remove(c)
		// Not tls.Conn.Close, which waits for room to say goodbye: the other end may take nothing.
		c.closeErr = c.Conn.(*tls.Conn).NetConn().Close()
	})
	return c.closeErr
}
