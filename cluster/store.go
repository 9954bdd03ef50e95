package cluster

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/storage/plan"
)

// store is the log and stable store of raft: raft-wal, with each entry's CRC checked, and
// with every failure made final. raft itself goes on after some of them (hazards R4), and a
// failed fsync must never be tried again.
type store struct {
	wal     *wal.WAL
	mark    *mark                       // what the log must reach at the next start
	sealed  func() (storage.Head, bool) // the newest sealed segment
	fail    func(error)
	metrics *metrics

	readOnly bool // of a stopped node: nothing may be written

	busy   stopwatch             // of the writes that are under way
	broken atomic.Pointer[error] // the first failure; nothing is written after it
	armed  atomic.Uint64         // an install put segments up to here in its place, and raft is about to empty the log; 0 = none
}

var (
	_ raft.LogStore          = (*store)(nil)
	_ raft.StableStore       = (*store)(nil)
	_ raft.MonotonicLogStore = (*store)(nil)
)

// failing reports err as final and passes it on. That the log was closed, in a node that stops, is no failure of it.
func (s *store) failing(operation string, err error) error {
	if err == nil || errors.Is(err, wal.ErrClosed) {
		return err
	}
	err = fmt.Errorf("raft log: %s: %w", operation, err)
	s.broken.CompareAndSwap(nil, &err)
	s.fail(err)
	return err
}

// write runs a persistent step, unless one failed before: what a failed fsync left behind is
// unknown, and a later one that works would cover it up.
func (s *store) write(operation, point string, step func() error) error {
	if first := s.broken.Load(); first != nil {
		return fmt.Errorf("raft log: %s: refused after an earlier failure: %w", operation, *first)
	}
	defer s.busy.end(s.busy.begin())
	return s.failing(operation, fault.Step(point, step))
}

// check looks at the bounds of the log before raft does, and holds them against the newest sealed segment (reference
// rule 8) and the mark. Nothing but compact and raft's cut of a tail that was never committed ever deletes from the log.
func (s *store) check() error {
	first, last, err := s.bounds()
	if err == nil {
		err = s.checkSealed(first, last)
	}
	if err == nil && last < s.mark.index {
		err = fmt.Errorf("%w: it ends at entry %d, but entries up to %d were written and synced; to start without them, and to lose them for good, delete the file %s beside it", ErrCorrupt, last, s.mark.index, markFile)
	}
	return err
}

// checkSealed holds the bounds against the newest sealed segment.
func (s *store) checkSealed(first, last uint64) error {
	h, _ := s.sealed()
	var at raft.Log
	fit, err := plan.FitLog(first, last, h.Point.Index, h.Point.Term, func() (uint64, error) {
		err := s.GetLog(h.Point.Index, &at)
		return at.Term, err
	})
	if h.Installed && err == nil {
		fit, err = s.checkInstalled(fit, first, last, &h)
	}
	switch {
	case err != nil:
		return err
	case fit == plan.NoSegment:
		return fmt.Errorf("%w: it begins at entry %d, and no sealed segment holds what was before", ErrCorrupt, first)
	case fit == plan.EndsEarly:
		return fmt.Errorf("%w: it ends at entry %d, but the segments are sealed up to entry %d: acknowledged entries are lost", ErrCorrupt, last, h.Point.Index)
	case fit == plan.BeginsLate:
		return fmt.Errorf("%w: it begins at entry %d, the segments are sealed up to entry %d: the ones between are lost", ErrCorrupt, first, h.Point.Index)
	case fit == plan.OtherTerm:
		return fmt.Errorf("%w: entry %d is of term %d, the segment was sealed in term %d: they do not belong together", ErrCorrupt, at.Index, at.Term, h.Point.Term)
	}
	return nil
}

// checkInstalled is for a head that came from another node (reference rule 8). The log may begin right behind it, or be
// empty. One that ends before it, or has another entry there, is from before the install: a crash came before raft
// emptied it. No vote counts on what is in it, since the leader had all that was committed up to the head.
func (s *store) checkInstalled(fit plan.Fit, first, last uint64, h *storage.Head) (plan.Fit, error) {
	switch {
	case fit == plan.BeginsLate && first == h.Point.Index+1, last == 0:
		return plan.Fits, nil
	case s.readOnly && (fit == plan.EndsEarly || fit == plan.OtherTerm):
		return plan.Fits, nil // the next start empties it
	case fit == plan.EndsEarly, fit == plan.OtherTerm:
		return plan.Fits, s.wipe(first, last)
	}
	return fit, nil
}

// wipe empties the log. The mark goes first: it would miss the entries.
func (s *store) wipe(first, last uint64) error {
	return s.write("wipe", "raft.wipe", func() error {
		if err := s.mark.lower(0); err != nil || last == 0 {
			return err
		}
		return s.wal.DeleteRange(first, last)
	})
}

// arm allows raft to empty the log, once: an install has put sealed segments up to index in its place. raft leaves an empty
// one alone.
func (s *store) arm(index uint64) {
	if _, last, err := s.bounds(); err == nil && last == 0 {
		return
	}
	s.armed.Store(index)
}

// errTail is why a node ends after an install that took entries from beyond its own index: raft would still believe that
// it has them.
var errTail = errors.New("an install replaced entries that were never committed, and raft must start anew; start the node again, nothing is lost")

// wipeArmed is raft's wipe after an install: all of the log, at once.
func (s *store) wipeArmed(from, to, index uint64) error {
	first, last, err := s.bounds()
	if err != nil {
		return s.failing("bounds", err)
	}
	if from > first || to < last {
		return s.failing("wipe", fmt.Errorf("%w: entries %d to %d of %d to %d, after an install up to %d", errWipe, from, to, first, last, index))
	}
	if err := s.wipe(first, last); err != nil {
		return err
	}
	if last > index {
		return s.failing("wipe", fmt.Errorf("%w: %d to %d, installed up to %d", errTail, index+1, last, index))
	}
	return nil
}

func (s *store) bounds() (first, last uint64, err error) {
	if first, err = s.wal.FirstIndex(); err == nil {
		last, err = s.wal.LastIndex()
	}
	return first, last, err
}

// compact deletes the entries below keep. A log that was closed, in a node that stops, is left as it is: the next seal
// deletes them.
func (s *store) compact(keep uint64) error {
	first, _, err := s.bounds()
	if err != nil {
		return s.failing("bounds", err)
	}
	if first == 0 || keep <= first {
		return nil
	}
	return s.write("compact", "raft.compact", func() error { return s.wal.DeleteRange(first, keep-1) })
}

// IsMonotonic says that indexes have no gaps; raft then empties the log after an install.
func (s *store) IsMonotonic() bool { return true }

func (s *store) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }
func (s *store) LastIndex() (uint64, error)  { return s.wal.LastIndex() }

// GetLog reads and checks an entry. Below the first index it answers raft.ErrLogNotFound itself: raft-wal
// would still find deleted entries in its tail file, and raft compares the error with ==. The entry of the sealed
// point is known even where the log begins behind it (reference rule 9).
func (s *store) GetLog(index uint64, out *raft.Log) error {
	first, err := s.wal.FirstIndex()
	if err != nil {
		return s.failing("first index", err)
	}
	if first == 0 || index < first {
		if h, ok := s.sealed(); ok && index == h.Point.Index {
			*out = raft.Log{Index: index, Term: h.Point.Term, Type: raft.LogNoop}
			return nil
		}
		return raft.ErrLogNotFound
	}
	err = s.read(index, out)
	if errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound
	}
	if err == nil {
		err = unseal(out)
	}
	if err == nil && out.Index != index {
		err = fmt.Errorf("%w: entry %d stands in the place of %d", ErrCorrupt, out.Index, index)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return s.failing(fmt.Sprintf("read entry %d", index), err)
}

// read is raft-wal's GetLog, which panics at some damaged entries.
func (s *store) read(index uint64, out *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	err = s.wal.GetLog(index, out)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) && !errors.Is(err, wal.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends and fsyncs: the one fsync on the way to an acknowledgement.
func (s *store) StoreLogs(ls []*raft.Log) error {
	start := time.Now()
	toDisk := make([]*raft.Log, len(ls))
	for i, l := range ls {
		toDisk[i] = withSeal(l)
	}
	err := s.write("append", "raft.append", func() error {
		if err := s.wal.StoreLogs(toDisk); err != nil || len(ls) == 0 {
			return err
		}
		return s.mark.raise(ls[len(ls)-1].Index)
	})
	s.metrics.appended(ls, time.Since(start))
	return err
}

// errWipe says that raft wanted to delete what only we may.
var errWipe = errors.New("raft wants to delete entries that the sealed segments need")

// DeleteRange is raft's: it cuts a tail that was never committed, or empties the log after an install. Whatever reaches down to the sealed point would lose
// acknowledged entries (reference rule 5).
func (s *store) DeleteRange(from, to uint64) error {
	if index := s.armed.Swap(0); index > 0 {
		return s.wipeArmed(from, to, index)
	}
	if h, ok := s.sealed(); ok && from <= h.Point.Index {
		return s.failing("delete", fmt.Errorf("%w: entries %d to %d, sealed up to %d", errWipe, from, to, h.Point.Index))
	}
	return s.write("delete", "raft.delete", func() error {
		if err := s.mark.lower(from - min(from, 1)); err != nil {
			return err
		}
		return s.wal.DeleteRange(from, to)
	})
}

// Set is fsynced before it returns: raft's vote depends on it.
func (s *store) Set(key, value []byte) error {
	return s.write("set", "raft.set", func() error { return s.wal.Set(key, value) })
}

func (s *store) SetUint64(key []byte, value uint64) error {
	return s.write("set", "raft.set", func() error { return s.wal.SetUint64(key, value) })
}

// ErrUnreadable says that the disk does not give back what was written.
var ErrUnreadable = errors.New("the disk cannot be read")

func (s *store) Get(key []byte) ([]byte, error) {
	value, err := s.wal.Get(key)
	return value, s.failing("get", err)
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	value, err := s.wal.GetUint64(key)
	return value, s.failing("get", err)
}
