package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// Figures of forwarding.
const (
	forwardWait   = 10 * time.Second       // a command waits so long for a leader (DESIGN section 3), and a link so long for an answer
	forwardDrain  = 500 * time.Millisecond // a leader that is none any more has so long to answer what it has
	forwardPause  = 50 * time.Millisecond  // after a failure, doubled up to forwardPauseMax
	forwardPauses = 4

	forwardQueueBytes = 64 << 20
)

// ForwardLink is what links to a leader are for.
var ForwardLink = peer.Key{Group: GroupName, Purpose: protocol.PeerForward}

// Judged says what a request was judged by on the node that its client is connected to.
type Judged struct {
	Policy      uint64 // version of the policy
	Revocations uint64 // version of the revocation list
}

// before says whether something newer is known.
func (j Judged) before(now Judged) bool {
	return j.Policy < now.Policy || j.Revocations < now.Revocations
}

// Leader is where commands go. The zero value: nobody knows.
type Leader struct {
	Node    string
	Address string // of its peer port
	Self    bool   // it is this node, and has applied everything committed before it led
}

// ForwarderOptions of a Forwarder. Zero values mean defaults where there is one.
type ForwarderOptions struct {
	Links *peer.Links

	// Propose takes commands while this node leads, as Group.Propose does.
	Propose func(cmd []byte, done Done)

	// Fresh says what this node judges by, and up to which index it has applied.
	Fresh func() (Judged, uint64)

	QueueBytes int // commands that wait or are not answered; then Submit waits (64 MiB)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Forwarder takes the commands of this node's clients to whoever leads: in order, in batches, over one link, with outcomes
// kept exact. What was not yet sent waits for the next leader; what was sent and not answered is unknown. Answers come in
// the order of Submit. Its methods may be used by many goroutines.
type Forwarder struct {
	options ForwarderOptions
	metrics *forwardMetrics
	wake    chan struct{} // cap 1: something changed, for Run
	local   atomic.Int64  // commands that Propose has not answered
	turned  atomic.Bool   // returned is not empty

	failures int // Owned by Run. In a row.

	mu       sync.Mutex
	change   *sync.Cond // room in the queue, and work for the link's writer
	leader   Leader     // Guarded by mu.
	queue    []waiting  // Guarded by mu. Not yet sent.
	queued   int        // Guarded by mu. Bytes of queue.
	bytes    int        // Guarded by mu. Bytes of queue, and of what was sent over a link and not answered.
	returned []waiting  // Guarded by mu. Refused by who does not lead any more: they go to the front of the queue.
	handing  bool       // Guarded by mu. A command from the queue is on its way to Propose.
	closed   bool       // Guarded by mu.
}

// waiting is a command without an answer.
type waiting struct {
	judged Judged
	cmd    []byte
	done   Done
	since  time.Time
}

func (w *waiting) size() int { return len(w.cmd) + placeBytes }

// NewForwarder makes a forwarder; Run keeps it going.
func NewForwarder(o ForwarderOptions) *Forwarder {
	if o.QueueBytes == 0 {
		o.QueueBytes = forwardQueueBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Forwarder{options: o, metrics: newForwardMetrics(o.Registerer), wake: make(chan struct{}, 1)}
	f.change = sync.NewCond(&f.mu)
	return f
}

// Submit queues a command and returns; done gets its answer, as with Group.Propose. With ErrStale the index is what this
// node must have applied before it judges the request again. The forwarder owns cmd from now on. Submit waits while the
// queue is full.
func (f *Forwarder) Submit(j Judged, cmd []byte, done Done) {
	if len(cmd) > protocol.ForwardCommandBytesMax {
		done(state.Result{}, 0, rejected(fmt.Errorf("%w: it has %d bytes, at most %d can be forwarded", ErrRefused, len(cmd), protocol.ForwardCommandBytesMax)))
		return
	}
	w := waiting{j, cmd, done, time.Now()}
	f.mu.Lock()
	for f.bytes > 0 && f.bytes+w.size() > f.options.QueueBytes && !f.closed {
		f.change.Wait()
	}
	switch {
	case f.closed:
		f.mu.Unlock()
		done(state.Result{}, 0, rejected(ErrShutdown))
	case f.leader.Self && len(f.queue) == 0 && len(f.returned) == 0 && !f.handing && f.holds(j):
		f.local.Add(1)
		f.mu.Unlock()
		f.propose(w)
	default:
		f.queue = append(f.queue, w)
		f.queued += w.size()
		f.bytes += w.size()
		f.change.Broadcast()
		f.mu.Unlock()
		f.poke()
	}
}

// holds says whether nothing newer than what a request was judged by is in force here. If there is, hand answers it in its turn.
func (f *Forwarder) holds(j Judged) bool {
	now, _ := f.options.Fresh()
	return !j.before(now)
}

// SetLeader says where commands go from now on.
func (f *Forwarder) SetLeader(l Leader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l != f.leader {
		f.leader = l
		f.change.Broadcast()
		f.poke()
	}
}

func (f *Forwarder) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run takes commands to the leader until ctx ends. What was not sent then is rejected.
func (f *Forwarder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		l := f.awaitLeader(ctx)
		var err error
		switch {
		case l.Self:
			f.serveSelf(ctx, l)
		case l.Node != "":
			err = f.serveLink(ctx, l)
		}
		if err == nil {
			f.failures = 0
			continue
		}
		f.options.Logger.Warn("no link to the leader", "leader", l.Node, "error", err)
		f.pause(ctx, l, forwardPause<<min(f.failures, forwardPauses))
		f.failures++
	}
	f.mu.Lock()
	f.closed = true
	f.change.Broadcast()
	f.mu.Unlock()
	f.settleSelf()
	f.reject(f.take(func(*waiting) bool { return true }), ErrShutdown)
	return nil
}

// awaitLeader waits until a leader is known.
func (f *Forwarder) awaitLeader(ctx context.Context) Leader {
	for {
		f.expire()
		if l := f.current(); l.Node != "" || ctx.Err() != nil {
			return l
		}
		f.rest(ctx, nil, f.untilExpiry())
	}
}

func (f *Forwarder) current() Leader {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader
}

// pause lets time pass while l leads.
func (f *Forwarder) pause(ctx context.Context, l Leader, d time.Duration) {
	for end := time.Now().Add(d); ctx.Err() == nil && f.current() == l; {
		f.expire()
		left := time.Until(end)
		if left <= 0 {
			return
		}
		f.rest(ctx, nil, min(left, f.untilExpiry()))
	}
}

// rest waits for a change, for what done reports, or for d.
func (f *Forwarder) rest(ctx context.Context, done <-chan error, d time.Duration) (err error, ended bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err = <-done:
		return err, true
	case <-f.wake:
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, false
}

// expire rejects what has waited too long. It is called only while nothing is sent and unanswered, so that answers keep
// their order.
func (f *Forwarder) expire() {
	now := time.Now()
	f.reject(f.take(func(w *waiting) bool { return now.Sub(w.since) >= forwardWait }), ErrNoLeader)
}

// untilExpiry is how long nothing will expire.
func (f *Forwarder) untilExpiry() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return forwardWait
	}
	return time.Until(f.queue[0].since.Add(forwardWait))
}

// take takes commands from the front of the queue, as long as they are wanted.
func (f *Forwarder) take(wanted func(*waiting) bool) []waiting {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.queue) && wanted(&f.queue[n]) {
		f.bytes -= f.queue[n].size()
		n++
	}
	return f.cutLocked(n)
}

// cutLocked takes n commands from the queue; they still count in bytes.
func (f *Forwarder) cutLocked(n int) []waiting {
	taken := f.queue[:n:n]
	for i := range taken {
		f.queued -= taken[i].size()
	}
	if f.queue = f.queue[n:]; len(f.queue) == 0 {
		f.queue = nil
	}
	f.change.Broadcast()
	return taken
}

func (f *Forwarder) reject(ws []waiting, why error) {
	for i := range ws {
		f.metrics.rejected.Inc()
		ws[i].done(state.Result{}, 0, rejected(why))
	}
}

// serveSelf proposes here while this node leads, and then waits until everything that it proposed is answered.
func (f *Forwarder) serveSelf(ctx context.Context, l Leader) {
	for ctx.Err() == nil && f.current() == l {
		if f.turned.Load() { // refused although this node seems to lead: wait for news, or try again
			f.settleSelf()
			f.pause(ctx, l, forwardPause)
			continue
		}
		w, ok := f.next(l)
		if !ok {
			f.rest(ctx, nil, forwardWait)
			continue
		}
		f.hand(w)
	}
	f.settleSelf()
}

// next takes one command from the queue for Propose.
func (f *Forwarder) next(l Leader) (waiting, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 || f.leader != l {
		return waiting{}, false
	}
	w := f.cutLocked(1)[0]
	f.bytes -= w.size()
	f.handing = true
	f.local.Add(1)
	return w, true
}

// hand gives Propose a command from the queue, unless it was judged by what holds no longer.
func (f *Forwarder) hand(w waiting) {
	if now, applied := f.options.Fresh(); w.judged.before(now) {
		f.local.Add(-1)
		f.awaitLocal() // answers keep their order
		f.answer(w, state.Result{}, applied, rejected(ErrStale))
	} else {
		f.propose(w)
	}
	f.mu.Lock()
	f.handing = false
	f.mu.Unlock()
}

// propose proposes here.
func (f *Forwarder) propose(w waiting) {
	f.options.Propose(w.cmd, func(r state.Result, index uint64, err error) { f.answerLocal(w, r, index, err) })
}

func (f *Forwarder) answerLocal(w waiting, r state.Result, index uint64, err error) {
	f.answer(w, r, index, err)
	if f.local.Add(-1) == 0 {
		f.poke()
	}
}

// settleSelf waits until what was proposed here is answered. The group answers everything within bounds of its own.
func (f *Forwarder) settleSelf() {
	f.awaitLocal()
	f.restore()
	f.poke() // a change may have been among them
}

func (f *Forwarder) awaitLocal() {
	for f.local.Load() > 0 {
		<-f.wake
	}
}

// answer answers a command, unless it goes back into the queue. One that is answered behind others that went back ends
// their way: they are rejected, as they were.
func (f *Forwarder) answer(w waiting, r state.Result, index uint64, err error) {
	if notLeader(err) {
		f.mu.Lock()
		f.returned = append(f.returned, w)
		f.turned.Store(true)
		f.mu.Unlock()
		return
	}
	if f.turned.Load() {
		f.mu.Lock()
		back := f.returned
		f.returned = nil
		f.turned.Store(false)
		f.mu.Unlock()
		f.reject(back, ErrNotLeader)
	}
	w.done(r, index, err)
}

// restore puts back what went back, before everything that came later. Nothing is sent and unanswered.
func (f *Forwarder) restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.returned) == 0 {
		return
	}
	for i := range f.returned {
		f.queued += f.returned[i].size()
		f.bytes += f.returned[i].size()
	}
	f.queue = append(f.returned, f.queue...)
	f.returned = nil
	f.turned.Store(false)
	f.change.Broadcast()
}

// serveLink opens a link to the leader and serves it as long as it leads. The error is why there is none any more.
func (f *Forwarder) serveLink(ctx context.Context, l Leader) error {
	c, err := f.dial(ctx, l)
	if err != nil {
		if f.current() != l || ctx.Err() != nil {
			return nil
		}
		return err
	}
	s := &sending{f: f, conn: c, leader: l, ended: make(chan error, 2)}
	err = s.serve(ctx)
	if left := s.settle(); left > 0 {
		f.metrics.unknown.Add(float64(left))
		f.options.Logger.Warn("commands are unknown: the link to the leader was lost after they were sent", "leader", l.Node, "commands", left, "error", err)
	}
	f.restore()
	if s.heard && !errors.Is(err, ErrNotLeader) {
		f.failures = 0
	}
	if f.current() != l {
		return nil
	}
	return err
}

// dial opens a link; it is given up when another leads.
func (f *Forwarder) dial(ctx context.Context, l Leader) (c *peer.Conn, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		c, err = f.options.Links.Dial(ctx, l.Node, l.Address, ForwardLink)
		done <- err
	}()
	for ended := false; !ended; {
		if err, ended = f.rest(ctx, done, f.untilExpiry()); ended {
			break
		}
		f.expire()
		if f.current() != l {
			cancel()
		}
		if ctx.Err() != nil {
			err, ended = <-done, true
		}
	}
	if err == nil && f.current() != l {
		err = errors.Join(errMoved, c.Close())
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

var errMoved = errors.New("another node leads")
