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
	"github.com/waxwing-mq/waxwing/state"
)

// sending is a link to the leader, on the node that dialed it.
type sending struct {
	f      *Forwarder
	conn   *peer.Conn
	leader Leader
	ended  chan error // cap 2: why a loop ended

	lastID uint64 // Owned by writeLoop.
	heard  bool   // Owned by readLoop. The leader has answered something.

	// Guarded by f.mu.
	inFlight []parcel // sent, or being sent, and not answered
	stopped  bool     // nothing more is sent
}

// parcel is a FORWARD without all its answers.
type parcel struct {
	id       uint64
	commands []waiting
	answered int
}

// serve sends and reads until the link fails, another node leads, the leader says that it is none, or ctx ends.
func (s *sending) serve(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.writeLoop(); err != nil {
			s.ended <- err
		}
	})
	work.Go(func() { s.ended <- s.readLoop() })
	err, ended := s.watch(ctx)
	s.stop()
	if !ended {
		err = s.drain()
	}
	s.conn.Close() // ends both loops
	work.Wait()
	return err
}

// watch waits for the end.
func (s *sending) watch(ctx context.Context) (err error, ended bool) {
	for ctx.Err() == nil && s.f.current() == s.leader && !s.f.turned.Load() {
		if err, ended = s.f.rest(ctx, s.ended, time.Hour); ended {
			return err, true
		}
	}
	return nil, false
}

// drain gives the leader of before some time to answer what it has.
func (s *sending) drain() error {
	refused := s.f.current() == s.leader && s.f.turned.Load()
	end := time.Now().Add(forwardDrain)
	for s.unanswered() > 0 && time.Now().Before(end) {
		if err, ended := s.f.rest(context.Background(), s.ended, time.Until(end)); ended {
			return err
		}
	}
	s.f.poke() // a change may have been among the ones heard here
	if refused {
		return ErrNotLeader
	}
	return nil
}

func (s *sending) unanswered() int {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return len(s.inFlight)
}

// stop ends sending; what is in flight may still be answered.
func (s *sending) stop() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.stopped = true
	s.f.change.Broadcast()
}

// settle answers what was sent and not answered: nobody knows. Both loops have ended.
func (s *sending) settle() (left int) {
	s.f.mu.Lock()
	lost := s.inFlight
	s.inFlight = nil
	s.f.mu.Unlock()
	for i := range lost {
		for _, w := range lost[i].commands[lost[i].answered:] {
			s.release(w.size())
			s.f.answer(w, state.Result{}, 0, unknown(ErrLinkLost))
			left++
		}
	}
	return left
}

// release gives back room in the queue.
func (s *sending) release(bytes int) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.bytes -= bytes
	s.f.change.Broadcast()
}

// writeLoop sends what waits.
func (s *sending) writeLoop() error {
	var buf []byte
	for {
		p, ok := s.next()
		if !ok {
			return nil
		}
		m := protocol.Forward{PolicyVer: p.commands[0].judged.Policy, RevocationVer: p.commands[0].judged.Revocations, Commands: make([][]byte, len(p.commands))}
		for i := range p.commands {
			m.Commands[i] = p.commands[i].cmd
		}
		s.f.metrics.sent.Add(float64(len(p.commands)))
		buf = m.AppendFrame(buf[:0], p.id)
		if _, err := s.conn.Write(buf); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if cap(buf) > 2*entryBytesMax {
			buf = nil
		}
	}
}

// next waits until a batch may leave, and takes it: from now on it counts as sent. The rule is that of group commit: few
// small ones, more full ones, no timer.
func (s *sending) next() (parcel, bool) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for !s.mayLeaveLocked() {
		if s.stopped {
			return parcel{}, false
		}
		f.change.Wait()
	}
	n, size := 0, 0
	for n < len(f.queue) && n < protocol.ForwardCommandsMax && f.queue[n].judged == f.queue[0].judged {
		if size += f.queue[n].size(); n > 0 && size > entryBytesMax {
			break
		}
		n++
	}
	s.lastID++
	p := parcel{id: s.lastID, commands: f.cutLocked(n)}
	s.inFlight = append(s.inFlight, p)
	if len(s.inFlight) == 1 {
		s.expectLocked()
	}
	return p, true
}

func (s *sending) mayLeaveLocked() bool {
	if s.stopped || len(s.f.queue) == 0 || s.f.leader != s.leader {
		return false
	}
	n := len(s.inFlight)
	return n < inFlightMax || n < fullInFlightMax && s.f.queued >= entryBytesMax
}

// expectLocked gives the leader time for the next answer.
func (s *sending) expectLocked() {
	until := time.Time{}
	if len(s.inFlight) > 0 {
		until = time.Now().Add(forwardWait)
	}
	s.conn.SetReadDeadline(until)
}

// readLoop takes answers.
func (s *sending) readLoop() error {
	frames := protocol.NewFrameReader(s.conn, protocol.ForwardedFrameBytesMax)
	for {
		body, err := frames.Next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the leader ended the link")
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		id, m, err := protocol.Decode(body)
		if err != nil {
			return err
		}
		answers, ok := m.(*protocol.Forwarded)
		if !ok {
			return fmt.Errorf("the leader sent %v", m.Kind())
		}
		if err := s.onForwarded(id, answers.Answers); err != nil {
			return err
		}
	}
}

// told is the answer to one command.
type told struct {
	result state.Result
	index  uint64
	err    error
}

// onForwarded answers the next commands of the oldest batch. A frame that is not whole and sound answers nothing.
func (s *sending) onForwarded(id uint64, answers []protocol.ForwardAnswer) error {
	list := make([]told, len(answers))
	for i := range answers {
		r, err, bad := outcomeOfForwarded(s.leader.Node, &answers[i])
		if bad != nil {
			return fmt.Errorf("answer %d to batch %d: %w", i, id, bad)
		}
		if errors.Is(err, ErrShutdown) && notSent(err) { // it stops, and hands over: the next leader may have it
			err = rejected(fmt.Errorf("%w: %w", ErrNotLeader, err))
		}
		list[i] = told{r, answers[i].Index, err}
	}
	commands, err := s.answered(id, len(list))
	if err != nil {
		return err
	}
	s.heard = true
	for i, w := range commands {
		s.release(w.size())
		s.f.answer(w, list[i].result, list[i].index, list[i].err)
	}
	s.f.poke()
	return nil
}

// answered takes n commands of the batch id, which must be the oldest.
func (s *sending) answered(id uint64, n int) ([]waiting, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if len(s.inFlight) == 0 || s.inFlight[0].id != id {
		return nil, fmt.Errorf("an answer to batch %d, which is not the oldest one", id)
	}
	p := &s.inFlight[0]
	left := p.commands[p.answered:]
	if n == 0 || n > len(left) {
		return nil, fmt.Errorf("%d answers to batch %d, which has %d commands without", n, id, len(left))
	}
	if p.answered += n; p.answered == len(p.commands) {
		s.inFlight = s.inFlight[1:]
	}
	s.expectLocked()
	s.f.change.Broadcast()
	return left[:n], nil
}
