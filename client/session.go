package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// writeBytes is how much the writer collects before it writes.
const writeBytes = 512 << 10

var (
	errSilent      = errors.New("the broker was silent for three keep-alive periods")
	errUnwelcome   = errors.New("the broker sent an answer that fits no request")
	errLostRequest = errors.New("the connection was lost before the answer came")
)

// session is one welcomed connection. It lives from connect to the first error and
// is never reused. readLoop is the only reader, writeLoop the only writer.
type session struct {
	client  *Client
	server  string
	conn    *tls.Conn
	state   tls.ConnectionState
	welcome protocol.Welcome
	born    time.Time
	number  uint64 // of the client's sessions, rising

	publishes bool // it is the one to the leader, and carries nothing else; written before start

	ids    atomic.Uint64 // last request id
	heard  atomic.Bool   // a frame came since the last tick
	useful atomic.Bool   // an acknowledgement or records came
	wake   chan struct{} // holds 1: there is something to write
	done   chan struct{} // closed by fail
	wg     sync.WaitGroup

	// Owned by readLoop.
	frames  *protocol.FrameReader
	deliver protocol.Deliver

	// Owned by the client's maintainLoop.
	lastHeard, lastPing time.Time

	mu sync.Mutex
	// Guarded by mu.
	err     error
	control []byte // encoded frames that wait for writeLoop
	pending map[uint64]func(protocol.Message, error)
	subs    map[uint64]*Subscription
	leased  map[uint64]*Consumer

	pubs map[uint64]*pubBatch // sent and unanswered; guarded by producer.mu
}

// start lets the two loops run; waitOr waits for their end.
func (s *session) start() {
	s.wg.Go(s.readLoop)
	s.wg.Go(s.writeLoop)
}

// waitOr returns why the session ended, once both loops have. The end of ctx ends it.
func (s *session) waitOr(ctx context.Context) error {
	select {
	case <-s.done:
	case <-ctx.Done():
		s.fail(ErrClosed)
	}
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ended says whether it has ended.
func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// reason is why the session ended; nil = it has not.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail ends the session; the first reason counts. Every pending request is told.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	pending := s.pending
	s.pending, s.subs, s.leased, s.control = nil, nil, nil, nil
	s.mu.Unlock()

	close(s.done)
	s.conn.Close() // unblocks both loops
	for _, done := range pending {
		done(nil, fmt.Errorf("%w: %w", errLostRequest, err))
	}
}

// send puts a request on its way. done is called exactly once, from readLoop or
// fail, and must not block.
func (s *session) send(m protocol.Message, done func(protocol.Message, error)) {
	id := s.ids.Add(1)
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		done(nil, fmt.Errorf("%w: %w", errLostRequest, err))
		return
	}
	s.pending[id] = done
	s.control = m.AppendFrame(s.control, id)
	s.mu.Unlock()
	poke(s.wake)
}

// cast sends a frame that has no answer.
func (s *session) cast(m protocol.Message) {
	s.mu.Lock()
	if s.err == nil {
		s.control = m.AppendFrame(s.control, 0)
	}
	s.mu.Unlock()
	poke(s.wake)
}

// writeLoop is the only writer: control frames first, then batches that are ready.
func (s *session) writeLoop() {
	var buf []byte
	for {
		buf = s.takeControl(buf[:0])
		buf = s.client.producer.fill(s, buf, writeBytes)
		if len(buf) == 0 {
			select {
			case <-s.wake:
				continue
			case <-s.done:
				return
			}
		}
		if _, err := s.conn.Write(buf); err != nil {
			s.fail(fmt.Errorf("write: %w", err))
			return
		}
	}
}

func (s *session) takeControl(buf []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf = append(buf, s.control...)
	s.control = s.control[:0]
	return buf
}

// readLoop is the only reader.
func (s *session) readLoop() {
	for {
		body, err := s.frames.Next()
		if err == nil {
			s.heard.Store(true)
			err = s.onFrame(body)
		}
		if err != nil {
			s.fail(fmt.Errorf("read: %w", err))
			return
		}
	}
}

// onFrame dispatches one frame. An error ends the session.
func (s *session) onFrame(body []byte) error {
	kind, _, err := protocol.Peek(body)
	if err != nil {
		return err
	}
	if kind == protocol.KindDeliver {
		s.useful.Store(true)
		return s.onDeliver(body)
	}
	id, m, err := protocol.Decode(body)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *protocol.Published:
		s.useful.Store(true)
		return s.client.producer.onPublished(s, id, m)
	case *protocol.Error:
		return s.onError(id, m)
	case *protocol.Event:
		s.onEvent(m)
	case *protocol.Leased:
		s.useful.Store(true)
		if k := s.consumer(m.Sub); k != nil {
			return k.onLeased(s, m)
		}
	case *protocol.Ping:
		s.cast(&protocol.Pong{Payload: m.Payload})
	case *protocol.Pong:
	default:
		return s.onAnswer(id, m)
	}
	return nil
}

// onError is an answer to a batch or to another request; with id 0 it is about the
// connection itself.
func (s *session) onError(id uint64, m *protocol.Error) error {
	if id == 0 {
		return translate("connection", s.server, s.welcome.Identity, m)
	}
	if s.client.producer.onRejected(s, id, m) {
		return nil
	}
	return s.onAnswer(id, m)
}

func (s *session) onAnswer(id uint64, m protocol.Message) error {
	s.mu.Lock()
	done, ok := s.pending[id]
	delete(s.pending, id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: kind %v, request %d", errUnwelcome, m.Kind(), id)
	}
	done(m, nil)
	return nil
}

// onDeliver hands records to their subscription. One that has just ended may still
// get some; they are dropped.
func (s *session) onDeliver(body []byte) error {
	m := &s.deliver
	if _, err := protocol.DecodeDeliver(body, m); err != nil {
		return err
	}
	if sub := s.subscription(m.Sub); sub != nil {
		return sub.onDeliver(m)
	}
	return nil
}

func (s *session) onEvent(m *protocol.Event) {
	switch {
	case m.Sub == 0 && !s.publishes:
		s.client.onEvent(m)
		return
	case m.Sub == 0: // the rest the client hears over its own connection
		if m.Type == protocol.EventLeader {
			s.client.hint(m.Text)
		}
		return
	}
	if sub := s.subscription(m.Sub); sub != nil {
		sub.onEvent(m)
	}
	if k := s.consumer(m.Sub); k != nil && m.Type == protocol.EventSubClosed {
		go k.onRefused(s, &protocol.Error{Code: m.Code, Text: m.Text})
	}
}

func (s *session) consumer(id uint64) *Consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leased[id]
}

// watchConsumer lets frames for the consumer reach it; unwatchConsumer ends that.
func (s *session) watchConsumer(k *Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		if s.leased == nil {
			s.leased = map[uint64]*Consumer{}
		}
		s.leased[k.id] = k
	}
}

func (s *session) unwatchConsumer(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leased, id)
}

func (s *session) subscription(id uint64) *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs[id]
}

// watch lets frames for the subscription reach it; unwatch ends that.
func (s *session) watch(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs != nil {
		s.subs[sub.id] = sub
	}
}

func (s *session) unwatch(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subs, id)
}

// tick probes a silent connection and gives up a dead one. A blocked Write needs no
// deadline of its own: a broker that takes nothing and says nothing is closed here.
func (s *session) tick(now time.Time, keepAlive time.Duration) {
	if s.heard.Swap(false) {
		s.lastHeard = now
		return
	}
	switch quiet := now.Sub(s.lastHeard); {
	case quiet > 3*keepAlive:
		s.fail(errSilent)
	case quiet > keepAlive && now.Sub(s.lastPing) > keepAlive:
		s.lastPing = now
		s.cast(&protocol.Ping{Payload: uint64(now.UnixNano())})
	}
}
