package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
)

// readsLink is what links for questions about the read index are for.
var readsLink = peer.Key{Group: GroupName, Purpose: protocol.PeerRead}

// Bounds of such a link.
const (
	readAnswerWait    = 3 * time.Second // for an answer; then the link is given up
	readFrameBytesMax = 16 << 10
)

// readLink is a node's link to the leader for its questions. It stays open.
type readLink struct {
	// Owned by whoever asks, which is one at a time.
	conn   *peer.Conn // nil = none is open
	to     Leader
	frames *protocol.FrameReader
	lastID uint64

	mu     sync.Mutex
	leader Leader             // Guarded by mu. Whom a question is for.
	cancel context.CancelFunc // Guarded by mu. Ends the question; nil = there is none.
}

// ask asks the leader. The question ends when another node leads.
func (r *readLink) ask(ctx context.Context, links *peer.Links, l Leader) (index uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.begin(l, cancel)
	defer r.begin(Leader{}, nil)
	if err := r.open(ctx, links, l); err != nil {
		return 0, err
	}
	answer, err := r.question(ctx)
	if err != nil {
		r.close()
		return 0, fmt.Errorf("node %s: %w", l.Node, err)
	}
	switch a := answer.(type) {
	case *protocol.OK:
		return a.Applied, nil
	case *protocol.Error:
		return 0, fmt.Errorf("node %s: %s", l.Node, a.Text)
	}
	r.close()
	return 0, fmt.Errorf("node %s answers with %v", l.Node, answer.Kind())
}

func (r *readLink) begin(l Leader, cancel context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leader, r.cancel = l, cancel
}

// setLeader ends a question to who does not lead any more.
func (r *readLink) setLeader(l Leader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil && r.leader != l {
		r.cancel()
	}
}

// open makes sure that there is a link to the leader.
func (r *readLink) open(ctx context.Context, links *peer.Links, l Leader) error {
	if r.conn != nil && r.to == l {
		return nil
	}
	r.close()
	c, err := links.Dial(ctx, l.Node, l.Address, readsLink)
	if err != nil {
		return err
	}
	r.conn, r.to, r.frames, r.lastID = c, l, protocol.NewFrameReader(c, readFrameBytesMax), 0
	return nil
}

func (r *readLink) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// question sends one over the open link and waits for its answer.
func (r *readLink) question(ctx context.Context) (protocol.Message, error) {
	defer context.AfterFunc(ctx, func() { r.conn.Close() })()
	r.conn.SetDeadline(time.Now().Add(readAnswerWait))
	r.lastID++
	if _, err := r.conn.Write((&protocol.ReadIndex{}).AppendFrame(nil, r.lastID)); err != nil {
		return nil, err
	}
	body, err := r.frames.Next()
	if err != nil {
		return nil, err
	}
	id, m, err := protocol.Decode(body)
	if err == nil && id != r.lastID {
		err = fmt.Errorf("question %d is answered under the number %d", r.lastID, id)
	}
	return m, err
}

// serveReads answers the questions of a link, one after the other, until it ends.
func (g *Group) serveReads(c *peer.Conn) {
	frames := protocol.NewFrameReader(c, readFrameBytesMax)
	for {
		body, err := frames.Next()
		if err == nil {
			err = g.answerRead(c, body)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				g.options.Logger.Info("a link for reads ended", "peer", c.Node(), "error", err)
			}
			return
		}
		frames.Release()
	}
}

// answerRead answers one question.
func (g *Group) answerRead(c *peer.Conn, body []byte) error {
	id, m, err := protocol.Decode(body)
	if err != nil {
		return err
	}
	if _, ok := m.(*protocol.ReadIndex); !ok {
		return fmt.Errorf("it sent %v", m.Kind())
	}
	ctx, cancel := context.WithTimeout(context.Background(), readAnswerWait)
	defer cancel()
	index, err := g.reads.confirming.ask(ctx)
	var answer protocol.Message = &protocol.OK{Applied: index}
	if err != nil {
		answer = &protocol.Error{Code: protocol.CodeNotLeader, Text: err.Error()}
	}
	c.SetWriteDeadline(time.Now().Add(readAnswerWait))
	_, err = c.Write(answer.AppendFrame(nil, id))
	return err
}
