package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// Bounds of what other nodes forward.
const (
	intakeLinkBytes   = 4 << 20  // commands of one link that are not answered; then it is not read
	intakeBytes       = 32 << 20 // of all links together, and one frame more of each
	intakeWriteBytes  = 256 << 10
	intakeFrameWait   = 10 * time.Second // a frame that has begun, and a write of answers, may take so long
	intakeAnswerBytes = 32               // an answer takes about as much besides text and result
)

// IntakeOptions of an Intake. Zero values mean defaults where there is one.
type IntakeOptions struct {
	// Propose takes commands, as Group.Propose does.
	Propose func(cmd []byte, done Done)

	// Lead is nil while this node leads and has applied everything committed before it did; else why it takes nothing.
	Lead func() error

	// Fresh says what this node judges by, and up to which index it has applied.
	Fresh func() (Judged, uint64)

	// Full says whether publishes are refused because the disk is. nil = never.
	Full func() bool

	LinkBytes  int // commands of one link that are not answered (4 MiB)
	Bytes      int // the same of all links (32 MiB)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Intake is the leader's side of forwarding: it proposes what other nodes send and answers in order. Handle is the links'
// handler for ForwardLink.
type Intake struct {
	options  IntakeOptions
	received prometheus.Counter
	refused  *prometheus.CounterVec

	mu    sync.Mutex
	bytes int                     // Guarded by mu. Of all links.
	links map[*receiving]struct{} // Guarded by mu.
}

// NewIntake makes an intake.
func NewIntake(o IntakeOptions) *Intake {
	if o.LinkBytes == 0 {
		o.LinkBytes = intakeLinkBytes
	}
	if o.Bytes == 0 {
		o.Bytes = intakeBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	in := &Intake{options: o, links: map[*receiving]struct{}{},
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "waxwing_forward_received_total", Help: "Commands that other nodes forwarded to this one."}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxwing_forward_refused_total", Help: "Forwarded commands that were refused before they were proposed, by reason."}, []string{"reason"})}
	if o.Registerer != nil {
		o.Registerer.MustRegister(in.received, in.refused)
	}
	return in
}

// receiving is a link from a node that does not lead.
type receiving struct {
	in     *Intake
	conn   *peer.Conn
	change *sync.Cond // of in.mu

	// Owned by readLoop.
	lastID uint64

	// Guarded by in.mu.
	batches []*received // in order; not yet answered
	bytes   int         // of batches
	closed  bool
}

// received is a FORWARD that was taken.
type received struct {
	id    uint64
	slots []slot
	sent  int // answers that are written
	bytes int
}

// slot is the place of an answer.
type slot struct {
	told
	ready bool // Guarded by in.mu; told is written before, and never again
}

// Handle serves a link until it ends.
func (in *Intake) Handle(c *peer.Conn) {
	l := &receiving{in: in, conn: c, change: sync.NewCond(&in.mu)}
	in.mu.Lock()
	in.links[l] = struct{}{}
	in.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() {
		if err := l.answerLoop(); err != nil {
			in.options.Logger.Warn("forwarding link ended", "peer", c.Node(), "error", err)
		}
		c.Close()
		l.end()
	})
	if err := l.readLoop(); err != nil && !errors.Is(err, io.EOF) {
		in.options.Logger.Info("forwarding link ended", "peer", c.Node(), "error", err)
	}
	c.Close()
	l.end()
	work.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.links, l)
	in.releaseLocked(l, l.bytes)
}

// end wakes both loops for the last time.
func (l *receiving) end() {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	l.closed = true
	l.change.Broadcast()
}

// releaseLocked gives back room.
func (in *Intake) releaseLocked(l *receiving, bytes int) {
	full := in.bytes >= in.options.Bytes
	l.bytes -= bytes
	in.bytes -= bytes
	l.change.Broadcast()
	if full {
		for other := range in.links {
			other.change.Broadcast()
		}
	}
}

// readLoop takes batches and proposes them, while there is room.
func (l *receiving) readLoop() error {
	frames := protocol.NewFrameReader(l.conn, protocol.ForwardFrameBytesMax)
	frames.OnPartial(func(bytes int) {
		until := time.Time{}
		if bytes > 0 {
			until = time.Now().Add(intakeFrameWait)
		}
		l.conn.SetReadDeadline(until)
	})
	for l.awaitRoom() {
		body, err := frames.Next()
		if err != nil {
			return err
		}
		id, m, err := protocol.Decode(body)
		if err != nil {
			return err
		}
		frames.Release()
		f, ok := m.(*protocol.Forward)
		switch {
		case !ok:
			return fmt.Errorf("it sent %v", m.Kind())
		case len(f.Commands) == 0 || id != l.lastID+1:
			return fmt.Errorf("it sent batch %d of %d commands behind batch %d", id, len(f.Commands), l.lastID)
		}
		l.lastID = id
		l.propose(f)
	}
	return nil
}

// awaitRoom waits until another frame may be read. It is false once the link has ended.
func (l *receiving) awaitRoom() bool {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	for !l.closed && l.bytes > 0 && (l.bytes >= l.in.options.LinkBytes || l.in.bytes >= l.in.options.Bytes) {
		l.change.Wait()
	}
	return !l.closed
}

// propose proposes the commands of a batch, or refuses them.
func (l *receiving) propose(f *protocol.Forward) {
	in := l.in
	b := &received{id: l.lastID, slots: make([]slot, len(f.Commands))}
	for _, cmd := range f.Commands {
		b.bytes += len(cmd) + placeBytes
	}
	in.mu.Lock()
	l.batches = append(l.batches, b)
	l.bytes += b.bytes
	in.bytes += b.bytes
	in.mu.Unlock()
	in.received.Add(float64(len(f.Commands)))

	index, refusal := in.refusal(Judged{f.PolicyVer, f.RevocationVer})
	for i, cmd := range f.Commands {
		err := refusal
		if err == nil {
			err = in.check(cmd)
		}
		if err != nil {
			l.refuse(b, i, index, err)
			continue
		}
		in.options.Propose(cmd, func(r state.Result, index uint64, err error) { l.settle(b, i, told{r, index, err}) })
	}
}

// refusal is why a batch is not proposed.
func (in *Intake) refusal(j Judged) (index uint64, err error) {
	if err := in.options.Lead(); err != nil {
		return 0, err
	}
	now, applied := in.options.Fresh()
	if j.before(now) {
		return applied, fmt.Errorf("%w: it was judged under policy %d and revocation list %d, in force are %d and %d", ErrStale, j.Policy, j.Revocations, now.Policy, now.Revocations)
	}
	return 0, nil
}

// check is why a command is not proposed.
func (in *Intake) check(cmd []byte) error {
	if err := state.Check(cmd); err != nil {
		return err
	}
	if in.options.Full != nil && state.IsPublish(cmd) && in.options.Full() {
		return ErrFull
	}
	return nil
}

func (l *receiving) refuse(b *received, i int, index uint64, err error) {
	t := told{index: index, err: rejected(err)}
	a := forwardAnswer(&t.result, index, t.err)
	l.in.refused.WithLabelValues(a.Code.String()).Inc()
	l.settle(b, i, t)
}

// settle notes an answer. It does not block: it runs where the group answers.
func (l *receiving) settle(b *received, i int, t told) {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	b.slots[i].told, b.slots[i].ready = t, true
	if len(l.batches) > 0 && l.batches[0] == b && b.sent == i {
		l.change.Broadcast()
	}
}

// answerLoop writes answers in order.
func (l *receiving) answerLoop() error {
	var buf []byte
	for {
		b, ready := l.ready()
		if b == nil {
			return nil
		}
		buf = appendAnswers(buf[:0], b.id, ready)
		l.conn.SetWriteDeadline(time.Now().Add(intakeFrameWait))
		if _, err := l.conn.Write(buf); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		l.written(b, len(ready))
	}
}

// ready waits for answers that are next. It returns nothing once the link has ended.
func (l *receiving) ready() (*received, []slot) {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	for !l.closed {
		if len(l.batches) > 0 {
			b := l.batches[0]
			n := b.sent
			for n < len(b.slots) && b.slots[n].ready {
				n++
			}
			if n > b.sent {
				return b, b.slots[b.sent:n]
			}
		}
		l.change.Wait()
	}
	return nil, nil
}

// written notes that answers were sent.
func (l *receiving) written(b *received, n int) {
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	if b.sent += n; b.sent == len(b.slots) {
		l.batches = l.batches[1:]
		l.in.releaseLocked(l, b.bytes)
	}
}

// appendAnswers appends frames with the answers of a batch, none much larger than intakeWriteBytes.
func appendAnswers(dst []byte, id uint64, ready []slot) []byte {
	for len(ready) > 0 {
		var m protocol.Forwarded
		for size := 0; len(m.Answers) < len(ready) && size < intakeWriteBytes && len(m.Answers) < protocol.ForwardAnswersMax; {
			t := &ready[len(m.Answers)]
			a := forwardAnswer(&t.result, t.index, t.err)
			m.Answers = append(m.Answers, a)
			size += intakeAnswerBytes + len(a.Text) + len(a.Result)
		}
		ready = ready[len(m.Answers):]
		dst = m.AppendFrame(dst, id)
	}
	return dst
}
