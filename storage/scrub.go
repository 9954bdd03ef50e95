package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Defaults and limits of the scrub.
const (
	ScrubBytesPerSecondDefault = 32 << 20
	ScrubBytesPerSecondMin     = 1 << 20
	ScrubIntervalDefault       = 24 * time.Hour

	scrubAgain = 10 * time.Second // after a check that could not be made
)

// scrub reads sealed segments again, the one that was not read for the longest time first. When each was read last is
// kept in the file SCRUB, so that a restart neither begins anew nor forgets what was damaged.
type scrub struct {
	signal chan struct{} // cap 1: a pass was asked for, or there is one more segment

	mu    sync.Mutex
	known map[string]finding // Guarded by mu. By name of the segment.
	asked time.Time          // Guarded by mu. What was read before is due.
	now   string             // Guarded by mu. The segment that is being read; "" = none.
}

// finding is what the last look at a segment brought.
type finding struct {
	checked time.Time
	fault   string // "" = it is whole
	held    bool   // the raft log still has its entries, and keeps them
	mending bool   // its records are being fetched from another node
}

func (c *scrub) init() {
	c.signal, c.known = make(chan struct{}, 1), map[string]finding{}
}

func (c *scrub) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

func (c *scrub) finding(s *segment) finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[s.name()]
}

// note changes a finding and returns what it was.
func (c *scrub) note(s *segment, change func(*finding)) (before finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.known[s.name()]
	after := before
	change(&after)
	c.known[s.name()] = after
	return before
}

// begin and end say what is being read.
func (c *scrub) begin(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = s.name()
}

func (c *scrub) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = ""
}

// scrubLoop checks what is due until ctx ends.
func (l *Log) scrubLoop(ctx context.Context) {
	limit := rate.NewLimiter(rate.Limit(l.options.ScrubBytesPerSecond), ScrubBytesPerSecondMin)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s, in := l.due(time.Now())
		if s != nil {
			l.scrub.begin(s)
			err := l.check(ctx, s, limit)
			l.scrub.end()
			if err == nil || errors.Is(err, ErrCorrupt) || ctx.Err() != nil {
				continue
			}
			l.options.Logger.Warn("a segment was not checked; it is tried again", "segment", s.name(), "error", err)
			in = scrubAgain
		}
		timer.Reset(in)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.scrub.signal:
			if s != nil { // what could not be checked is not tried again at once
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
			}
		}
	}
}

// due is the segment to check now, or nil and when to look again.
func (l *Log) due(now time.Time) (oldest *segment, in time.Duration) {
	c := &l.scrub
	c.mu.Lock()
	defer c.mu.Unlock()
	var at time.Time
	for _, s := range l.set.segments() {
		if s.manifest.Load() == nil {
			continue
		}
		if checked := c.known[s.name()].checked; oldest == nil || checked.Before(at) {
			oldest, at = s, checked
		}
	}
	if in = at.Add(l.options.ScrubInterval).Sub(now); oldest == nil {
		return nil, l.options.ScrubInterval
	}
	if at.Before(c.asked) || in <= 0 {
		return oldest, 0
	}
	return nil, in
}

// check reads a sealed segment whole, by a handle of its own, and keeps what it finds. limit nil = as fast as the disk
// is. An error wraps ErrCorrupt if the segment is damaged, and is errGone if it was deleted meanwhile.
func (l *Log) check(ctx context.Context, s *segment, limit *rate.Limiter) error {
	pace := func(n int) error {
		l.metrics.scrubbed.Add(float64(n))
		if !l.set.has(s) {
			return errGone
		}
		if limit == nil {
			return ctx.Err()
		}
		return limit.WaitN(ctx, n)
	}
	err := l.verifyOnce(ctx, s, pace)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !l.set.has(s):
		return nil // deleted or merged meanwhile; what replaced it was read when it was sealed
	case err == nil:
		l.whole(s)
	case errors.Is(err, ErrCorrupt):
		l.damage(s, err)
		l.scrub.note(s, func(f *finding) { f.checked = time.Now() })
	default:
		return err
	}
	l.metrics.checks.Inc()
	l.saveScrub()
	return err
}

// whole notes that a segment was read and nothing was wrong with it.
func (l *Log) whole(s *segment) {
	before := l.scrub.note(s, func(f *finding) { *f = finding{checked: time.Now()} })
	if before.fault != "" {
		l.options.Logger.Info("a segment that was damaged is whole again: the disk gave other bytes this time", "segment", s.name())
	}
}

// damage notes that a sealed segment is damaged, and says what to do, once. Nobody merges it any more. If the raft log
// still has its entries it keeps them from now on.
func (l *Log) damage(s *segment, err error) {
	if s.manifest.Load() == nil {
		return
	}
	held := l.isHead(s)
	before := l.scrub.note(s, func(f *finding) {
		f.held = f.held || f.fault == "" && held
		f.fault = fmt.Sprint(err)
	})
	if before.fault != "" {
		return
	}
	l.repairs.wake()
	l.saveScrub()
	l.options.Logger.Error("a segment is damaged: records in it are refused, not skipped", "segment", s.name(), "dir", s.dir, "error", err, "do", l.advice(held))
}

// found looks at an error of a read in a segment, and notes the damage that it tells of.
func (l *Log) found(s *segment, err error) error {
	if errors.Is(err, ErrCorrupt) {
		l.metrics.damaged.Inc()
		l.damage(s, err)
	}
	return err
}

// advice says what to do about a damaged segment.
func (l *Log) advice(held bool) string {
	if l.options.Replicated {
		return "it is fetched from another node, as soon as one can give it"
	}
	if held {
		return fmt.Sprintf("stop the node, move this folder and every newer one out of %s to %s, and start it again: the raft log still has their entries and fills them again",
			filepath.Join(l.options.Dir, segmentsDir), filepath.Join(l.options.Dir, quarantineDir))
	}
	return "restore the data folder from a backup; what is whole in the segment can still be read"
}

func (l *Log) isHead(s *segment) bool {
	h, ok := l.Head()
	return ok && h.Number == s.last
}

// NeedsLog is the first entry of the raft log that a damaged segment needs to be filled again; ok is false if none
// does.
func (l *Log) NeedsLog() (from uint64, ok bool) {
	for _, s := range l.set.segments() {
		if m := s.manifest.Load(); m != nil && l.scrub.finding(s).held {
			return m.From, true // the oldest
		}
	}
	return 0, false
}

// Damage is an error that names the damaged segments, or nil.
func (l *Log) Damage() error {
	var errs []error
	for _, s := range l.set.segments() {
		if f := l.scrub.finding(s); f.fault != "" {
			errs = append(errs, fmt.Errorf("segment %s is damaged; %s: %s", s.name(), l.advice(f.held), f.fault))
		}
	}
	return errors.Join(append(errs, l.repairs.missing())...)
}

// Scrub makes every sealed segment due now: they are read again in the background, at the configured rate.
func (l *Log) Scrub() {
	l.scrub.mu.Lock()
	l.scrub.asked = time.Now()
	l.scrub.mu.Unlock()
	l.scrub.wake()
}

// ScrubStatus is how far the scrub is.
type ScrubStatus struct {
	Segment        string    // being read; "" = none
	Asked          time.Time // when a pass was asked for last; zero = never since the start
	Oldest         time.Time // of the last checks; zero = nothing is sealed
	Due, Sealed    int       // segments that wait to be read in this pass, of all
	DueBytes       int64     // what they take on disk
	Damaged        int
	BytesPerSecond int64
	Interval       time.Duration
}

// ScrubStatus returns the scrub's status now.
func (l *Log) ScrubStatus() ScrubStatus {
	st := ScrubStatus{BytesPerSecond: l.options.ScrubBytesPerSecond, Interval: l.options.ScrubInterval}
	c := &l.scrub
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Segment, st.Asked = c.now, c.asked
	st.Damaged = len(l.aside())
	since := time.Now().Add(-l.options.ScrubInterval)
	if since.Before(c.asked) {
		since = c.asked
	}
	for _, s := range l.set.segments() {
		m := s.manifest.Load()
		if m == nil {
			continue
		}
		st.Sealed++
		f := c.known[s.name()]
		if f.fault != "" {
			st.Damaged++
		}
		if st.Oldest.IsZero() || f.checked.Before(st.Oldest) {
			st.Oldest = f.checked
		}
		if f.checked.Before(since) {
			st.Due++
			st.DueBytes += m.diskBytes()
		}
	}
	return st
}

// age is how long the oldest check is ago.
func (s ScrubStatus) age() time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(time.Since(s.Oldest), 0)
}

// ErrNoSegment says that there is no segment of that name any more.
var ErrNoSegment = errors.New("there is no such segment; it may have been deleted or merged")

// VerifySegment reads one sealed segment whole now, at most so many bytes a second (0 = no limit), and returns what it
// found: Fault says what is wrong with it. One that is not sealed yet is only described. One call at a time reads.
func (l *Log) VerifySegment(ctx context.Context, name string, bytesPerSecond int64) (SegmentStatus, error) {
	s := l.set.named(name)
	if s == nil {
		return SegmentStatus{}, fmt.Errorf("segment %s: %w", name, ErrNoSegment)
	}
	if s.manifest.Load() == nil {
		return l.statusOf(s), nil
	}
	select {
	case l.verifying <- struct{}{}:
		defer func() { <-l.verifying }()
	case <-ctx.Done():
		return SegmentStatus{}, context.Cause(ctx)
	}
	var limit *rate.Limiter
	if bytesPerSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(bytesPerSecond), ScrubBytesPerSecondMin)
	}
	if err := l.check(ctx, s, limit); err != nil && !errors.Is(err, ErrCorrupt) {
		return SegmentStatus{}, fmt.Errorf("segment %s: %w", name, err)
	}
	if !l.set.has(s) {
		return SegmentStatus{}, fmt.Errorf("segment %s: %w", name, ErrNoSegment)
	}
	return l.statusOf(s), nil
}
