package storage

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// Trim makes low the first readable record of a partition; readers below it get ErrTrimmed. It only rises. The space
// comes back with the segments. Like Append it is called by one goroutine at a time.
func (l *Log) Trim(id topic.PartitionID, low topic.Offset) {
	p := l.partOrNew(id)
	p.mu.Lock()
	p.low = max(p.low, low)
	p.mu.Unlock()
	l.tidy.wake()
}

// AgeLow is the low offset that keeps what was appended at or after beforeMs (unix ms): at least the partition's low.
// Append times never fall, so whole segments are passed over by their extents, and one is searched by halves.
func (l *Log) AgeLow(id topic.PartitionID, beforeMs int64) (topic.Offset, error) {
	p := l.part(id)
	if p == nil {
		return 0, nil
	}
	low, end := p.bounds()
	for _, s := range l.set.segments() {
		e, ok := s.extent(id)
		switch {
		case !ok || e.Next <= low:
		case e.LastMs < beforeMs:
			low = e.Next
		case e.FirstMs >= beforeMs:
			return max(low, e.Base), nil
		default:
			return l.searchCold(id, max(low, e.Base), e.Next, beforeMs)
		}
	}
	_, first, _ := p.searchTail(beforeMs) // the rest is in memory only
	return min(max(low, first), end), nil
}

// BytesLow is the low offset that keeps at most keep bytes of the newest stored batches, but always the newest value:
// the limit is kept to within a value of 256 KiB.
func (l *Log) BytesLow(id topic.PartitionID, keep uint64) (topic.Offset, error) {
	p := l.part(id)
	if p == nil {
		return 0, nil
	}
	list := l.set.segments()
	low, end := p.bounds()
	stored := low
	for _, s := range list {
		if e, ok := s.extent(id); ok {
			stored = max(stored, e.Next)
		}
	}
	left, at := p.newest(stored, keep)
	if left == 0 && at > stored {
		return min(at, end), nil
	}
	for i := len(list) - 1; i >= 0; i-- {
		e, ok := list[i].extent(id)
		switch {
		case !ok:
			continue
		case e.Next <= low:
			return low, nil
		case e.Bytes <= left:
			left -= e.Bytes
			continue
		}
		at, err := l.boundary(list[i], e, left, end)
		return max(low, at), err
	}
	return low, nil
}

// bounds are the first offset and the next one.
func (p *part) bounds() (low, end topic.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.low, p.end
}

// newest takes batches of the tail, from the newest down to offset stored, off a number of bytes. If they do not
// fit, left is 0 and at the first one that does.
func (p *part) newest(stored topic.Offset, keep uint64) (left uint64, at topic.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left, at = keep, p.end
	for i := len(p.tail) - 1; i >= 0 && p.tail[i].Base >= stored; i-- {
		size := uint64(len(p.tail[i].Raw))
		if size > left && i < len(p.tail)-1 {
			return 0, at
		}
		left, at = left-min(size, left), p.tail[i].Base
	}
	return left, at
}

// boundary finds the first value of an extent from which on at most keep bytes follow in it.
func (l *Log) boundary(s *segment, e Extent, keep uint64, end topic.Offset) (at topic.Offset, err error) {
	db, err := s.enter()
	if errors.Is(err, errGone) {
		return 0, nil // it was merged meanwhile: the next look finds the other
	}
	if err != nil {
		return 0, l.found(s, err)
	}
	defer s.leave()
	at = e.Next
	err = guarded(s.hurt, func() error {
		txn := db.NewTransactionAt(timestamp, false)
		defer txn.Discard()
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: key(e.Partition, 0)[:8]})
		defer it.Close()
		for it.Seek(key(e.Partition, e.Next)); it.Valid(); it.Next() {
			size := uint64(it.Item().ValueSize())
			newest := at == e.Next && e.Next == end
			if size > keep && !newest {
				return nil
			}
			keep, at = keep-min(size, keep), baseOf(it.Item().Key())
		}
		return nil
	})
	return at, l.found(s, err)
}

// tidy is the work that comes back to space: deleting and merging segments. It is told that there may be some.
type tidy struct {
	signal chan struct{} // cap 1
	mu     sync.Mutex    // held while segments are deleted and merged
}

// init leaves a signal: an earlier run may have been stopped in the middle.
func (t *tidy) init() {
	t.signal = make(chan struct{}, 1)
	t.wake()
}

func (t *tidy) wake() {
	select {
	case t.signal <- struct{}{}:
	default:
	}
}

// tidyLoop deletes and merges until ctx ends.
func (l *Log) tidyLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.tidy.signal:
		}
		if err := l.Tidy(ctx); err != nil {
			l.fail(err)
			return err
		}
	}
}

// Tidy deletes and merges segments until there is nothing to do, or ctx ends. Run does it by itself when something was
// trimmed, dropped or sealed.
func (l *Log) Tidy(ctx context.Context) error {
	l.tidy.mu.Lock()
	defer l.tidy.mu.Unlock()
	err := l.sweep()
	if err == nil {
		err = l.deleteDead()
	}
	for merged := true; err == nil && merged && ctx.Err() == nil; {
		merged, err = l.mergeSome(ctx)
	}
	return err
}

// live is how many bytes of an extent are still readable. Part of an extent counts by records.
func (l *Log) live(e Extent) uint64 {
	p := l.part(e.Partition)
	if p == nil {
		return 0 // its topic was gone before the last checkpoint
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped {
		return 0
	}
	return plan.Live(int64(e.Base), int64(e.Next), int64(p.low), e.Bytes)
}

// usage is what a segment holds, and how much of it is still readable.
func (l *Log) usage(s *segment) (bytes, live uint64) {
	s.each(func(e Extent) {
		bytes += e.Bytes
		live += l.live(e)
	})
	return bytes, live
}

// old are the sealed segments that may be deleted or merged: not the newest two, which a start needs, nor a damaged one
// that the raft log can fill again and the one before it, from which that would begin, nor one that is being copied.
func (l *Log) old() []*segment {
	list := l.set.segments()
	n := plan.Old(sort.Search(len(list), func(i int) bool { return list[i].manifest.Load() == nil }))
	for i := range n {
		if l.scrub.finding(list[i]).held {
			n = max(i-1, 0)
			break
		}
	}
	through := l.holds.held()
	return list[:n][sort.Search(n, func(i int) bool { return list[i].first > through }):]
}

// deleteDead deletes old segments that hold nothing readable.
func (l *Log) deleteDead() error {
	for _, s := range l.old() {
		bytes, live := l.usage(s)
		if !(plan.Usage{Bytes: bytes, Live: live}).Dead() {
			continue
		}
		if err := l.retire([]*segment{s}, nil); err != nil {
			return err
		}
		l.options.Logger.Info("segment deleted: nothing in it is readable any more", "segment", filepath.Base(s.dir), "bytes", bytes)
	}
	return nil
}

// retire takes segments out of the log, puts one in their place or none, and deletes them once nobody reads them.
func (l *Log) retire(old []*segment, by *segment) error {
	l.set.change(func(list []*segment) []*segment {
		out := list[:0]
		for _, s := range list {
			switch {
			case s == old[0] && by != nil:
				out = append(out, by)
			case !contains(old, s):
				out = append(out, s)
			}
		}
		return out
	})
	for _, s := range old {
		if err := l.delete(s); err != nil {
			return err
		}
	}
	return nil
}

func contains(list []*segment, s *segment) bool {
	return slices.Contains(list, s)
}
