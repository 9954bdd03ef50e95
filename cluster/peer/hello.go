package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
)

// RefusedError says why there is no link. It came from this node or from the other one.
type RefusedError struct {
	Code protocol.Code
	Text string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("peer link refused (%s): %s", e.Code, e.Text)
}

// readHello reads the first frame of an accepted link.
func readHello(t *tls.Conn) (*protocol.PeerHello, uint64, error) {
	id, m, err := readFirst(t)
	if err != nil {
		return nil, 0, &RefusedError{protocol.CodeMalformed, fmt.Sprintf("the first frame must be PEER_HELLO, within %v: %v", helloTimeout, err)}
	}
	h, ok := m.(*protocol.PeerHello)
	if !ok {
		return nil, 0, &RefusedError{protocol.CodeMalformed, fmt.Sprintf("the first frame must be PEER_HELLO, not %v", m.Kind())}
	}
	return h, id, nil
}

// ErrRefusedInTLS says that another node does not take this node's certificate. TLS does not say why.
var ErrRefusedInTLS = errors.New("the other node refuses this node's certificate; it was removed from the cluster, or revoked, or that node does not know its authority: its log says which")

// refusedInTLS explains the alert of a node that refused this one's certificate.
func refusedInTLS(err error) error {
	if o, ok := errors.AsType[*net.OpError](err); !ok || o.Op != "remote error" {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefusedInTLS, err)
}

// readWelcome reads the answer to PEER_HELLO.
func readWelcome(t *tls.Conn) (*protocol.PeerWelcome, error) {
	_, m, err := readFirst(t)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *protocol.PeerWelcome:
		if m.Version != protocol.PeerVersion {
			return nil, &RefusedError{protocol.CodeUnsupported, fmt.Sprintf("the node chose version %d of the links, this one speaks %d", m.Version, protocol.PeerVersion)}
		}
		return m, nil
	case *protocol.Refused:
		return nil, &RefusedError{m.Code, m.Text}
	}
	return nil, &RefusedError{protocol.CodeMalformed, fmt.Sprintf("PEER_HELLO was answered by %v", m.Kind())}
}

// readFirst reads the one frame that comes before what a link is for. What follows it must not be there yet: it would be
// lost in the reader.
func readFirst(t *tls.Conn) (uint64, protocol.Message, error) {
	t.SetReadDeadline(time.Now().Add(helloTimeout))
	defer t.SetReadDeadline(time.Time{})
	frames := protocol.NewFrameReader(t, protocol.HelloBytesMax)
	body, err := frames.Next()
	if err != nil {
		return 0, nil, err
	}
	id, m, err := protocol.Decode(body)
	if err == nil && frames.Buffered() > 0 {
		err = errors.New("bytes follow it before it was answered")
	}
	return id, m, err
}

// writeFrame sends one frame within the time of a greeting.
func writeFrame(t *tls.Conn, frame []byte) error {
	t.SetWriteDeadline(time.Now().Add(helloTimeout))
	defer t.SetWriteDeadline(time.Time{})
	_, err := t.Write(frame)
	return err
}

// check holds the PEER_HELLO of an accepted link to every rule.
func (l *Links) check(peer *identity.Peer, h *protocol.PeerHello) error {
	if !slices.Contains(h.Versions, protocol.PeerVersion) {
		return &RefusedError{protocol.CodeUnsupported, fmt.Sprintf("this node speaks version %d of the links, the other offers %v", protocol.PeerVersion, h.Versions)}
	}
	if err := l.checkNode(peer, h); err != nil {
		return err
	}
	if l.options.Handlers[Key{h.Group, h.Purpose}] == nil {
		return &RefusedError{protocol.CodeUnsupported, fmt.Sprintf("this node serves no %v of group %q", h.Purpose, h.Group)}
	}
	return nil
}

// checkNode holds what the other node says of itself to its certificate, our cluster and its members. Both ends do.
func (l *Links) checkNode(peer *identity.Peer, h *protocol.PeerHello) error {
	o := &l.options
	switch {
	case h.From == "" || h.From != peer.Node:
		return &RefusedError{protocol.CodeWrongNode, fmt.Sprintf("the certificate is of node %q, the node calls itself %q", peer.Node, h.From)}
	case h.From == o.Node:
		return &RefusedError{protocol.CodeWrongNode, fmt.Sprintf("node %q is this node: two have the same id, or it dialed itself", h.From)}
	case h.To != o.Node:
		return &RefusedError{protocol.CodeWrongNode, fmt.Sprintf("this is node %q, node %q was wanted", o.Node, h.To)}
	}
	if own := o.Cluster(); own != "" && h.Cluster != "" && own != h.Cluster {
		return &RefusedError{protocol.CodeWrongCluster, fmt.Sprintf("node %s is of cluster %s, this node of %s", h.From, h.Cluster, own)}
	}
	return l.member(h)
}

// member asks the owner.
func (l *Links) member(h *protocol.PeerHello) error {
	err := l.options.Member(h)
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused
	}
	return &RefusedError{protocol.CodeNotMember, err.Error()}
}

// refuse tells the other node why, and logs it.
func (l *Links) refuse(t *tls.Conn, peer *identity.Peer, err error) error {
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok {
		refused = &RefusedError{protocol.CodeInternal, "look at this node's log"}
	}
	l.metrics.refused(refused.Code.String())
	l.log.Warn("peer refused", "peer", peer.Node, "remote", t.RemoteAddr().String(), "code", refused.Code.String(), "error", err)
	m := protocol.Refused{Code: refused.Code, Text: refused.Text, Identity: string(peer.Principal)}
	t.SetDeadline(time.Now().Add(refuseTimeout))
	t.Write(m.AppendFrame(nil, 0))
	t.CloseWrite()
	identity.Drain(t)
	return err
}

func (l *Links) welcomeMessage() *protocol.PeerWelcome {
	o := &l.options
	return &protocol.PeerWelcome{Version: protocol.PeerVersion, Cluster: o.Cluster(), Node: o.Node, Disk: o.Disk, Software: o.Software, Client: o.Client, Commands: o.Commands, Fresh: o.Fresh(), SealKey: o.SealKey}
}
