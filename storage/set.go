package storage

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/waxwing-mq/waxwing/topic"
)

// openMax is how many sealed segments stay open: each costs 4 descriptors, 8 goroutines and 0.1 MiB.
const openMax = 256

// set is the log's segments, oldest first; the last one is active. The offsets of a partition rise along it.
type set struct {
	list  atomic.Pointer[[]*segment] // never changed in place
	clock atomic.Int64
	most  int // how many stay open

	mu sync.Mutex // held by whoever replaces list
}

func (t *set) segments() []*segment {
	if p := t.list.Load(); p != nil {
		return *p
	}
	return nil
}

// change replaces the list.
func (t *set) change(edit func(old []*segment) []*segment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := edit(append([]*segment(nil), t.segments()...))
	t.list.Store(&list)
}

// find returns the segment that holds a record. A partition's extents rise along the list, and most reads are
// of recent records.
func (t *set) find(id topic.PartitionID, offset topic.Offset) (*segment, Extent) {
	list := t.segments()
	for i := len(list) - 1; i >= 0; i-- {
		if e, ok := list[i].extent(id); ok && offset >= e.Base {
			if offset < e.Next {
				return list[i], e
			}
			return nil, Extent{}
		}
	}
	return nil, Extent{}
}

// has says whether s is still part of the log.
func (t *set) has(s *segment) bool { return slices.Contains(t.segments(), s) }

// named finds a segment by the name of its folder, or nil.
func (t *set) named(name string) *segment {
	for _, s := range t.segments() {
		if s.name() == name {
			return s
		}
	}
	return nil
}

// like finds a segment by name or, if there is none, one of the same cuts.
func (t *set) like(name string) *segment {
	if s := t.named(name); s != nil {
		return s
	}
	id, ok := parseSegmentID(name)
	for _, s := range t.segments() {
		if ok && s.first == id.first && s.last == id.last {
			return s
		}
	}
	return nil
}

// entered notes the use of s, and closes others when too many are open.
func (t *set) entered(s *segment) {
	s.used.Store(t.clock.Add(1))
	if s.fresh.CompareAndSwap(true, false) {
		t.closeOldest()
	}
}

// closeOldest closes the sealed segments that were not read for the longest time.
func (t *set) closeOldest() {
	var open []*segment
	for _, s := range t.segments() {
		if s.manifest.Load() != nil && s.isOpen() {
			open = append(open, s)
		}
	}
	for excess := len(open) - t.most; excess > 0; excess-- {
		oldest := open[0]
		for _, s := range open {
			if s.used.Load() < oldest.used.Load() {
				oldest = s
			}
		}
		oldest.closeIdle()
		oldest.used.Store(t.clock.Add(1)) // not looked at again in this round
	}
}
