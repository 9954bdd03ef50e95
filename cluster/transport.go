package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Figures of raft's network (DESIGN section 8).
const (
	rpcTimeout    = 10 * time.Second
	rpcPool       = 3 // idle links kept for each node
	rpcInFlightNo = 1 // no pipelining: it can wedge a follower (hashicorp/raft#612)
)

// raftLink is what raft's links are for.
var raftLink = peer.Key{Group: GroupName, Purpose: protocol.PeerRaft}

// Transport is raft's, over links between nodes. All that goes out shares one NetworkTransport. What comes in has one for
// each node, so that every request can be held to the node at the other end of its link: raft itself takes any sender's
// word for who it is (reference/hazards R3).
//
// Addresses are NODE@HOST:PORT: whom to expect, and where.
type Transport struct {
	*raft.NetworkTransport // outbound
	log                    hclog.Logger
	contacts               *contacts // nil = nobody wants to know
	consumer               chan raft.RPC
	ended                  chan struct{} // cap 1: a link that came in has ended
	done                   chan struct{}
	once                   sync.Once
	work                   sync.WaitGroup

	mu        sync.Mutex
	heartbeat func(raft.RPC)      // Guarded by mu.
	inbound   map[string]*inbound // Guarded by mu. By node.
	closed    bool                // Guarded by mu. Then inbound grows no more.
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// NewTransport makes a transport that dials over links. Handle must be the links' handler for raft.
func NewTransport(links *peer.Links, self raft.ServerAddress, log hclog.Logger) *Transport {
	t := &Transport{log: log, consumer: make(chan raft.RPC), ended: make(chan struct{}, 1), done: make(chan struct{}), inbound: map[string]*inbound{}}
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &dialer{links: links, self: self, done: t.done}, MaxPool: rpcPool, MaxRPCsInFlight: rpcInFlightNo, Timeout: rpcTimeout, Logger: log})
	return t
}

// Address is a node's in raft's configuration.
func Address(node, hostPort string) raft.ServerAddress {
	return raft.ServerAddress(node + "@" + hostPort)
}

// splitAddress is the reverse of Address.
func splitAddress(a raft.ServerAddress) (node, hostPort string, err error) {
	node, hostPort, ok := strings.Cut(string(a), "@")
	if !ok || node == "" {
		return "", "", fmt.Errorf("%q is no address of a node; it looks like NODE@HOST:PORT", a)
	}
	return node, hostPort, nil
}

// Handle serves a link that was accepted for raft, until it ends.
func (t *Transport) Handle(c *peer.Conn) {
	l := &served{Conn: c, ended: make(chan struct{})}
	in := t.from(c.Node())
	if in == nil {
		return
	}
	t.count(in, 1)
	defer t.count(in, -1)
	select {
	case in.accept <- l:
	case <-t.done:
		return
	}
	select {
	case <-l.ended:
	case <-t.done:
	}
}

// count notes that a link of a node's came or went.
func (t *Transport) count(in *inbound, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in.open += by; by < 0 {
		select {
		case t.ended <- struct{}{}:
		default:
		}
	}
}

// Ended gets a signal after a link has ended that another node had opened.
func (t *Transport) Ended() <-chan struct{} { return t.ended }

// Open is how many links a node has opened and not ended.
func (t *Transport) Open(node string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inbound[node]; in != nil {
		return in.open
	}
	return 0
}

// AppendEntries sends entries, or a heartbeat, and notes the answer.
func (t *Transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, request *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
	start, asked := time.Now(), t.contacts.asking()
	err := t.NetworkTransport.AppendEntries(id, to, request, answer)
	if t.contacts != nil {
		t.contacts.sent(string(id), request, answer, asked, time.Since(start), err)
	}
	return err
}

// Consumer is where raft takes requests from, of all nodes.
func (t *Transport) Consumer() <-chan raft.RPC { return t.consumer }

// SetHeartbeatHandler takes raft's way past its main loop.
func (t *Transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = f
}

// Close ends what raft started; the links end with it.
func (t *Transport) Close() (err error) {
	t.once.Do(func() {
		close(t.done)
		err = t.NetworkTransport.Close()
		t.NetworkTransport.CloseStreams()
		t.mu.Lock()
		list := t.inbound
		t.closed = true
		t.mu.Unlock()
		for _, in := range list {
			err = errors.Join(err, in.net.Close())
		}
		t.work.Wait()
	})
	return err
}

// inbound is what one node sends.
type inbound struct {
	node   string
	accept chan net.Conn
	net    *raft.NetworkTransport
	open   int // Guarded by Transport.mu. Links that are served.
}

// from finds or makes the transport for what a node sends; nil = this one is closed. There are as many as members were ever let in.
func (t *Transport) from(node string) *inbound {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if in := t.inbound[node]; in != nil {
		return in
	}
	in := &inbound{node: node, accept: make(chan net.Conn)}
	in.net = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &accepter{in.accept, t.done}, Timeout: rpcTimeout, Logger: t.log})
	in.net.SetHeartbeatHandler(func(r raft.RPC) {
		t.mu.Lock()
		heartbeat := t.heartbeat
		t.mu.Unlock()
		if in.sent(r) && heartbeat != nil {
			heartbeat(r)
		}
	})
	t.inbound[node] = in
	t.work.Go(func() { t.passOn(in) })
	return in
}

// passOn gives raft the requests of one node.
func (t *Transport) passOn(in *inbound) {
	for {
		select {
		case r := <-in.net.Consumer():
			if !in.sent(r) {
				continue
			}
			select {
			case t.consumer <- r:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

// errForged answers a request that names another sender than its link.
var errForged = errors.New("the request names another node than the certificate of its link")

// sent says whether a request names the node that sent it; if not, it is answered.
func (in *inbound) sent(r raft.RPC) bool {
	named, ok := r.Command.(raft.WithRPCHeader)
	if ok && string(named.GetRPCHeader().ID) == in.node {
		return true
	}
	r.Respond(nil, errForged)
	return false
}

// served is an accepted link that tells when raft has closed it.
type served struct {
	*peer.Conn
	once  sync.Once
	ended chan struct{}
}

func (s *served) Close() error {
	s.once.Do(func() { close(s.ended) })
	return s.Conn.Close()
}

// accepter is the listener of one node's links.
type accepter struct {
	conns chan net.Conn
	done  chan struct{}
}

func (a *accepter) Accept() (net.Conn, error) {
	select {
	case c := <-a.conns:
		return c, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

func (a *accepter) Close() error   { return nil }
func (a *accepter) Addr() net.Addr { return address("accepted") }

func (a *accepter) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("this side only accepts")
}

// dialer opens raft's links to others. It accepts none.
type dialer struct {
	links *peer.Links
	self  raft.ServerAddress
	done  chan struct{}
}

func (d *dialer) Accept() (net.Conn, error) {
	<-d.done
	return nil, net.ErrClosed
}

func (d *dialer) Close() error   { return nil }
func (d *dialer) Addr() net.Addr { return address(d.self) }

func (d *dialer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, hostPort, err := splitAddress(to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	go func() {
		select {
		case <-d.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := d.links.Dial(ctx, node, hostPort, raftLink)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// segmentsLink is what links for segments are for.
var segmentsLink = peer.Key{Group: GroupName, Purpose: protocol.PeerSegments}

// DialSegments opens links of purpose segments to the nodes of raft's configuration. The other end of one is
// Group.ServeSegments's.
func DialSegments(links *peer.Links) func(ctx context.Context, to raft.Server) (net.Conn, error) {
	return func(ctx context.Context, to raft.Server) (net.Conn, error) {
		node, hostPort, err := splitAddress(to.Address)
		if err != nil {
			return nil, err
		}
		c, err := links.Dial(ctx, node, hostPort, segmentsLink)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// address is a net.Addr.
type address string

func (a address) Network() string { return "waxwing" }
func (a address) String() string  { return string(a) }
