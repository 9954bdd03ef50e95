package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Deadlines of a connection's beginning.
const (
	handshakeTimeout = 5 * time.Second
	helloTimeout     = 5 * time.Second
	refuseTimeout    = time.Second
)

// welcome takes a connection from its first byte to WELCOME, and then serves it. It gives
// back the handshake slot that admit took.
func (s *Server) welcome(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	guard := identity.Guard(raw)
	t := tls.Server(guard, s.options.Identity.ServerConfig(identity.ClientSide))
	err := s.handshake(ctx, t)
	<-s.slots
	if err != nil {
		s.refusedInTLS(raw, err)
		return
	}
	guard.Open()
	state := t.ConnectionState()
	peer, err := s.options.Identity.Peer(state)
	s.metrics.handshakes.WithLabelValues(handshakeKind(&state)).Inc()
	if err != nil {
		s.refuse(t, &peer, identityFault(err))
		return
	}
	c := s.newConn(t, peer)
	if f := s.enter(c); f != nil {
		s.refuse(t, &peer, f)
		return
	}
	defer s.leave(c)
	if err := s.options.Identity.Recheck(&c.peer); err != nil { // a revocation may have come between
		s.refuse(t, &peer, identityFault(err))
		return
	}
	if f := c.hello(); f != nil {
		if ended := endFault(context.Cause(c.ctx)); ended != nil { // revoked meanwhile: that is why, not the read that failed
			f = ended
		}
		s.refuse(t, &peer, f)
		return
	}
	c.serve(ctx)
}

func handshakeKind(cs *tls.ConnectionState) string {
	if cs.DidResume {
		return "resumed"
	}
	return "full"
}

// handshake shakes hands on a goroutine of its own, which it waits for: that takes a large stack, and the goroutine that reads frames
// would keep it for as long as the connection lives.
func (s *Server) handshake(ctx context.Context, t *tls.Conn) (err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var shaking sync.WaitGroup
	shaking.Go(func() { err = t.HandshakeContext(ctx) })
	shaking.Wait()
	return err
}

// refusedInTLS logs a handshake that failed; the peer got an alert.
func (s *Server) refusedInTLS(raw net.Conn, err error) {
	refused := s.options.Identity.Refusal(identity.ClientSide, err)
	reason := string(refused.Reason)
	s.metrics.refused(reason)
	host, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
	if skipped, ok := s.denials.allow(host, reason); ok {
		s.log.Warn("handshake refused", "remote", raw.RemoteAddr().String(), "reason", reason, "identity", clip(refused.Identity), "error", clip(refused.Detail), "suppressed", skipped)
	}
}

// identityFault makes a refusal of the identity a fault.
func identityFault(err error) *fault {
	var refused *identity.RefusedError
	if !errors.As(err, &refused) {
		return &fault{code: protocol.CodeIdentity, text: err.Error()}
	}
	return &fault{code: refusedCode(refused), text: refused.Error()}
}

// refuse tells the peer why, in a typed frame, and logs it. Not one byte of the peer's was
// interpreted beyond its HELLO.
func (s *Server) refuse(t *tls.Conn, peer *identity.Peer, f *fault) {
	s.metrics.refused(f.code.String())
	s.metrics.failed(f)
	who := string(peer.Principal)
	if skipped, ok := s.denials.allow(who, f.code.String()); ok {
		s.log.Warn("connection refused", "identity", clip(who), "remote", t.RemoteAddr().String(), "code", f.code.String(), "reason", clip(f.text), "suppressed", skipped)
	}
	m := protocol.Refused{Code: f.code, Text: f.text, Identity: who}
	t.SetDeadline(time.Now().Add(refuseTimeout))
	t.Write(m.AppendFrame(nil, 0))
	t.CloseWrite()
	identity.Drain(t)
}

// hello reads HELLO and answers WELCOME.
func (c *conn) hello() *fault {
	c.tls.SetDeadline(time.Now().Add(helloTimeout))
	defer c.noDeadline()
	body, err := c.frames.Next()
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: fmt.Sprintf("the first frame must be HELLO, within %v: %v", helloTimeout, err)}
	}
	if kind, _, err := protocol.Peek(body); err != nil || kind != protocol.KindHello {
		return &fault{code: protocol.CodeMalformed, text: fmt.Sprintf("the first frame must be HELLO, not %v", kind)}
	}
	id, m, err := protocol.Decode(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	hello := m.(*protocol.Hello)
	if !slices.Contains(hello.Versions, protocol.Version) {
		return &fault{code: protocol.CodeUnsupported, text: fmt.Sprintf("this broker speaks protocol version %d, the client offers %v; use a client of the same generation", protocol.Version, hello.Versions)}
	}
	c.patient = slices.Contains(hello.Features, noQuorumFeature)
	if c.s.alone.Load() && !c.patient {
		return errNoQuorum
	}
	c.frames.SetMax(c.s.options.Limits.frameBytes())
	c.client = clip(hello.Client)
	if _, err := c.tls.Write(c.welcomeMessage().AppendFrame(nil, id)); err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	return nil
}

func (c *conn) welcomeMessage() *protocol.Welcome {
	s := c.s
	var features []string
	if c.patient {
		features = []string{noQuorumFeature}
	}
	return &protocol.Welcome{
		Features: features,
		Version:  protocol.Version, Node: s.options.NodeID, Cluster: s.options.Group.View().ClusterID(), Leader: s.leader(), Broker: s.options.Version,
		Identity: string(c.peer.Principal), Resumed: c.peer.Resumed, ExpiresMs: c.peer.NotAfter.UnixMilli(),
		PolicyVer: s.Policy().Version(), Limits: s.options.Limits.wire(),
	}
}
