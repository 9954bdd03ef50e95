package storage

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// repairs is what a replicated log knows of records that other nodes must give it, besides damaged segments: segments that
// were set aside at the start, and holes.
type repairs struct {
	signal   chan struct{} // cap 1: there may be something to repair
	swapping sync.Mutex    // held while segments from other nodes take their place

	mu    sync.Mutex
	away  []SegmentStatus                   // Guarded by mu. Set aside at the start.
	holes map[topic.PartitionID][]plan.Span // Guarded by mu. Readable records that no segment holds.
}

func (r *repairs) init() { r.signal = make(chan struct{}, 1) }

func (r *repairs) wake() {
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// setAside notes a folder that a start took out of the log.
func (r *repairs) setAside(name, to string, err error) {
	id, _ := parseSegmentID(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = append(r.away, SegmentStatus{Name: name, Dir: to, State: StateDamaged, First: id.first, Last: id.last, Fault: err.Error()})
}

// found keeps what a look for holes brought.
func (r *repairs) found(holes map[topic.PartitionID][]plan.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holes = holes
}

func (r *repairs) known() map[topic.PartitionID][]plan.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holes
}

// missing is an error that names some of the missing records, or nil.
func (r *repairs) missing() error {
	for id, list := range r.known() {
		return fmt.Errorf("partition %d: %w: records %d to %d are in no segment; they are fetched from another node, as soon as one can give them", id, ErrCorrupt, list[0].Base, list[0].Next-1)
	}
	return nil
}

// FindHoles looks for readable records that no segment has, of every partition, and says whether there are any. Readers
// of them get ErrCorrupt; Repairs finds out who can give them.
func (l *Log) FindHoles() bool {
	holes := map[topic.PartitionID][]plan.Span{}
	l.parts.Range(func(id, p any) bool {
		if list := l.holesOf(p.(*part)); len(list) > 0 {
			holes[id.(topic.PartitionID)] = list
		}
		return true
	})
	l.repairs.found(holes)
	return len(holes) > 0
}

// holesOf lists what is missing between the first and the next record of a partition.
func (l *Log) holesOf(p *part) (list []plan.Span) {
	low, end := p.bounds()
	tail := p.inMemory() // before the segments: what leaves memory meanwhile is in one
	var spans []plan.Span
	for _, s := range l.set.segments() {
		if e, ok := s.extent(p.id); ok {
			spans = append(spans, plan.Span{Base: int64(e.Base), Next: int64(e.Next)})
		}
	}
	for at := int64(low); ; {
		hole, _, missing := plan.Hole(at, int64(end), spans, tail)
		if !missing {
			return list
		}
		list, at = append(list, hole), hole.Next
	}
}

// aside describes the segments that were set aside, as long as records of theirs may be missing.
func (l *Log) aside() (list []SegmentStatus) {
	r := &l.repairs
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.holes) == 0 {
		return nil
	}
	for _, a := range r.away {
		covered := false
		for _, s := range l.set.segments() {
			covered = covered || s.first <= a.Last && a.First <= s.last
		}
		if !covered {
			list = append(list, a)
		}
	}
	return list
}

// checkHead makes sure that a start of a replicated log can take the state from the newest sealed segment. If its checkpoint
// is damaged the segment is set aside: the one before has another, and the raft log has the entries in between. Of a segment
// that came with an install it has not.
func (l *Log) checkHead(f *found, installed *Listing) error {
	n := len(f.sealed)
	if !l.options.Replicated || n == 0 || len(l.repairs.away) > 0 || installed.endsAt(headOf(f.sealed[n-1])) || n > 1 && f.sealed[n-2].manifest.Load().Chunks == 0 {
		return nil
	}
	head := f.sealed[n-1]
	cause := l.checkCheckpoint(head)
	if !errors.Is(cause, ErrCorrupt) {
		return cause
	}
	to, err := quarantine(l.options.Dir, head.dir)
	if err != nil {
		return fmt.Errorf("set a damaged segment aside: %w", err)
	}
	l.options.Logger.Error("segment set aside: its checkpoint cannot be read", "segment", head.name(), "to", to, "error", cause, "do", "nothing: the raft log has its entries and fills it again")
	f.sealed = f.sealed[:n-1]
	return nil
}

// checkCheckpoint reads the checkpoint of a sealed segment.
func (l *Log) checkCheckpoint(s *segment) error {
	for _, err := range l.checkpointOf(s) {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkpointOf yields the checkpoint of a sealed segment, by a handle of its own; behind the last chunk it may yield that they are
// not the ones that were sealed. A chunk is valid until the next one.
func (l *Log) checkpointOf(s *segment) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		m, hurt := s.manifest.Load(), false
		own := newSealed(s.dir, s.segmentID, m)
		db, err := l.opener(own, m, func(error) { hurt = true })()
		if err != nil {
			yield(nil, err)
			return
		}
		sum, more := xxhash.New(), true
		readChunks(db, own, func(chunk []byte, err error) bool {
			_, _ = sum.Write(chunk)
			more = yield(chunk, err) && err == nil
			return more
		})
		if more && sum.Sum64() != m.ChunkSum {
			yield(nil, fmt.Errorf("checkpoint of segment %s: %w: it is not the one that was sealed", s.name(), ErrCorrupt))
		}
		if !hurt && !own.isHurt() { // else Badger hangs in Close
			_ = db.Close()
		}
	}
}

// forgetAside deletes what was set aside and covers only cuts first to last: their records are here again.
func (l *Log) forgetAside(first, last uint64) error {
	var errs []error
	for _, a := range l.repairs.takeAway(first, last) {
		errs = append(errs, remove(a.Dir))
	}
	return errors.Join(errs...)
}

// takeAway forgets what was set aside within some cuts, and returns it.
func (r *repairs) takeAway(first, last uint64) (taken []SegmentStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rest []SegmentStatus
	for _, a := range r.away {
		if a.First < first || a.Last > last {
			rest = append(rest, a)
			continue
		}
		taken = append(taken, a)
	}
	r.away = rest
	return taken
}

// asideAdvice says what to do about a segment that was set aside.
func (l *Log) asideAdvice() string {
	if l.options.Replicated {
		return "nothing: what the raft log does not have is fetched from another node"
	}
	return "nothing yet: what is missing is told when the raft log was replayed; keep the folder " + filepath.Join(l.options.Dir, quarantineDir)
}
