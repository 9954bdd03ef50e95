package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// Times of a connection.
const (
	writeTimeout  = 30 * time.Second       // a client that takes nothing for so long is cut
	writePiece    = 64 << 10               // bytes that must be taken in that time
	finishTimeout = 300 * time.Millisecond // for what is being written, for the last frame, and for the client's end: a second together
	expiryWarning = 5 * time.Minute
)

// requestsMax is how many requests of one connection are worked on at once, publishes apart.
const requestsMax = 16

// conn is one welcomed connection.
type conn struct {
	s       *Server
	tls     *tls.Conn
	peer    identity.Peer
	account *account
	client  string // the program's name, as it calls itself
	ctx     context.Context
	cancel  context.CancelCauseFunc
	out     outbox
	window  window
	slots   chan struct{} // one per request that is worked on
	endBy   time.Time     // for what is being written when the connection is ended; written before ctx is cancelled, read after
	work    sync.WaitGroup

	patient bool // it wants to be here also while there is no leader; written before serve

	snapshots snapshots

	// Owned by readLoop.
	frames     *protocol.FrameReader
	publish    protocol.Publish
	frameBegan time.Time // of the frame that is not yet whole

	mu        sync.Mutex
	subs      map[uint64]*subscription // Guarded by mu.
	consumers map[uint64]*consumer     // Guarded by mu.
	ended     bool                     // Guarded by mu. finish was called.
}

// newConn builds a connection; serve runs it.
func (s *Server) newConn(t *tls.Conn, peer identity.Peer) *conn {
	c := &conn{
		s: s, tls: t, peer: peer,
		out:    newOutbox(),
		window: window{most: s.options.Limits.WindowBytes, freed: make(chan struct{}, 1)},
		slots:  make(chan struct{}, requestsMax),
		frames: protocol.NewFrameReader(t, protocol.HelloBytesMax),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// Time for the rest of a frame once it has begun: a client that drips is cut, one behind a slow line is not.
const (
	frameTimeout       = 5 * time.Second
	frameBytesPerSlice = 64 << 10 // each such part adds a second
)

// onPartialFrame bounds how long a frame may take, from its first byte.
func (c *conn) onPartialFrame(bytes int) {
	var until time.Time
	switch {
	case bytes == 0:
		c.frameBegan = time.Time{}
	case c.frameBegan.IsZero():
		c.frameBegan = time.Now()
	}
	if bytes > 0 {
		until = c.frameBegan.Add(frameTimeout + time.Duration(bytes/frameBytesPerSlice)*time.Second)
	}
	c.tls.SetReadDeadline(until)
	c.keepEnd()
}

// noDeadline lifts the deadlines of the beginning.
func (c *conn) noDeadline() {
	c.tls.SetDeadline(time.Time{})
	c.keepEnd()
}

// keepEnd follows each change of a deadline: finish may have set its own meanwhile, which must hold. It cancels ctx
// before it does.
func (c *conn) keepEnd() {
	if c.ctx.Err() != nil {
		c.endDeadlines()
	}
}

// endDeadlines stops the reader and gives the writer, also a write under way, time for a last frame.
func (c *conn) endDeadlines() {
	c.tls.SetWriteDeadline(c.endBy)
	c.tls.SetReadDeadline(time.Now()) // no frame is dispatched any more
}

// serve runs the connection until it ends.
func (c *conn) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.finish(errShutdown) })
	defer stop()
	c.s.log.Debug("client connected", "identity", c.peer.Principal, "client", c.client, "remote", c.tls.RemoteAddr().String(), "resumed", c.peer.Resumed)
	c.work.Go(c.writeLoop)
	err := c.readLoop()
	c.finish(endFault(err))
	c.work.Wait()
	c.endSnapshots()
	c.tls.SetReadDeadline(time.Now().Add(finishTimeout))
	identity.Drain(c.tls)
	c.s.log.Debug("client gone", "identity", c.peer.Principal, "remote", c.tls.RemoteAddr().String(), "reason", context.Cause(c.ctx))
}

// endFault is nil when the client simply left.
func endFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// readLoop reads frames and dispatches them until the connection ends.
func (c *conn) readLoop() error {
	c.frames.OnPartial(c.onPartialFrame)
	for {
		body, err := c.frames.Next()
		if err != nil {
			return readFault(err)
		}
		if err := c.out.awaitRoom(c.ctx); err != nil {
			return err
		}
		if c.ctx.Err() != nil { // what the reader still holds of a client that was ended is not looked at
			return context.Cause(c.ctx)
		}
		if err := c.dispatch(body); err != nil {
			return err
		}
		if c.frames.Buffered() == 0 {
			c.frames.Release()
		}
	}
}

// readFault tells frames that cannot be from connections that ended.
func readFault(err error) error {
	var large *protocol.FrameTooLargeError
	switch {
	case errors.As(err, &large):
		return &fault{code: protocol.CodeTooLarge, text: err.Error(), limit: "frame_bytes"}
	case errors.Is(err, protocol.ErrMalformed):
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &fault{code: protocol.CodeTimeout, text: fmt.Sprintf("a frame was begun and not finished within %v; send frames whole", frameTimeout)}
	}
	return err
}

// writeLoop is the only writer: it sends what the outbox holds, warns of the certificate's
// end, and closes when the connection is finished.
func (c *conn) writeLoop() {
	ends := time.NewTimer(time.Until(c.peer.NotAfter))
	defer ends.Stop()
	warn := time.NewTimer(time.Until(c.peer.NotAfter.Add(-expiryWarning)))
	defer warn.Stop()
	for {
		select {
		case <-c.out.wake:
		case <-c.ctx.Done():
			buf, _ := c.out.take()
			c.writeLast(buf)
			return
		case <-warn.C:
			c.out.push(&protocol.Event{Type: protocol.EventExpiring, Value: uint64(c.peer.NotAfter.UnixMilli()), Text: "the certificate of this connection ends soon; renew it and connect again"}, 0)
			continue
		case <-ends.C:
			c.finish(&fault{code: protocol.CodeExpired, text: "the certificate has expired; renew it and connect again"})
			continue
		}
		buf, wanted := c.out.take()
		if err := c.write(buf); err != nil {
			c.finish(nil)
			return
		}
		c.out.giveBack(buf)
		if wanted {
			c.wakeSubscriptions()
		}
	}
}

// write sends one burst. A client that takes nothing in time is cut; one behind a slow line, which takes
// a piece now and then, is not.
func (c *conn) write(buf []byte) error {
	for len(buf) > 0 {
		piece := buf[:min(len(buf), writePiece)]
		c.tls.SetWriteDeadline(time.Now().Add(writeTimeout))
		c.keepEnd()
		if _, err := c.tls.Write(piece); err != nil {
			c.stopsTaking(err)
			return err
		}
		buf = buf[len(piece):]
	}
	// TLS itself may answer while we have nothing to say (a client's new keys): a deadline of the past would fail it, and
	// with it every write after it.
	c.noWriteDeadline()
	return nil
}

// writeLast sends the last burst and closes our direction.
func (c *conn) writeLast(buf []byte) {
	c.tls.SetWriteDeadline(time.Now().Add(finishTimeout))
	if _, err := c.tls.Write(buf); err == nil {
		c.tls.CloseWrite()
	}
}

func (c *conn) noWriteDeadline() {
	c.tls.SetWriteDeadline(time.Time{})
	c.keepEnd()
}

// stopsTaking says, in the log and the metrics, that a client was cut because it takes nothing. The client itself
// cannot be told: it reads nothing.
func (c *conn) stopsTaking(err error) {
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || c.ctx.Err() != nil {
		return
	}
	c.s.metrics.limits.WithLabelValues("write_timeout").Inc()
	c.s.log.Warn("client cut: it takes nothing", "identity", c.peer.Principal, "remote", c.tls.RemoteAddr().String(), "for", writeTimeout)
}

// finish ends the connection: requests stop, and with a fault the client is told why. What
// was queued for a client that lost its rights is dropped; for others it is sent.
func (c *conn) finish(f *fault) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	c.mu.Unlock()
	if f == nil {
		c.cut()
		c.endBy = time.Now()
		c.cancel(io.EOF)
		return
	}
	event := &protocol.Event{Type: protocol.EventClosing, Code: f.code, Text: f.text}
	if f.code == protocol.CodeShutdown {
		c.out.final(event)
	} else {
		c.out.last(event)
	}
	c.endBy = time.Now().Add(finishTimeout)
	c.cancel(f)
	c.endDeadlines()
}

// cut closes the socket without a word.
func (c *conn) cut() { c.tls.NetConn().Close() }

// subject is what the current policy says about the client.
func (c *conn) subject() *policy.Subject { return c.s.Policy().For(string(c.peer.Principal)) }

// answer sends the answer to a request: the message, or the fault.
func (c *conn) answer(id uint64, m protocol.Message, f *fault) {
	if f != nil {
		c.s.metrics.failed(f)
		c.out.push(f.message(), id)
		return
	}
	c.out.push(m, id)
}

// do sends a command to the leader and waits for its result, and until this node has applied it too: the answer, and what
// the client asks next, are of a state that has it. j was read before the request was judged.
func (c *conn) do(j cluster.Judged, cmd []byte) (state.Result, uint64, *fault) {
	r, index, err := c.s.options.Group.Ask(c.ctx, j, cmd)
	if err != nil && !errors.Is(err, cluster.ErrStale) {
		return r, index, c.s.faultOf(err)
	}
	if f := c.after(index); f != nil {
		f.text = "the leader has made the change, this node has not applied it in time; look at it later, or ask the leader"
		if err != nil {
			f.outcome, f.text = protocol.OutcomeRejected, "this node lags behind the leader; try again, or ask the leader"
		}
		return r, index, f
	}
	if err != nil {
		return r, index, c.s.faultOf(err)
	}
	return r, index, resultFault(&r)
}

// afterTimeout is how long a request waits for an index that the client has seen, or for the read index.
const afterTimeout = 5 * time.Second

// after waits until this node has applied what the client has seen elsewhere, or everything that was acknowledged before it asked,
// and judges by it.
func (c *conn) after(index uint64) *fault {
	if index == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, afterTimeout)
	defer cancel()
	if index == protocol.AfterLinearizable {
		var err error
		if index, err = c.s.options.Group.ReadIndex(ctx); err != nil {
			return c.s.unconfirmed(err)
		}
	}
	if err := c.s.options.Group.WaitApplied(ctx, index); err != nil {
		return &fault{code: protocol.CodeNotCaughtUp, text: "this node has not applied the index that the request names; try again or ask the leader"}
	}
	c.s.catchUp()
	return nil
}
