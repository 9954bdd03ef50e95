package storage

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// Head is the newest sealed segment: the raft log is needed only behind its point.
type Head struct {
	Number uint64 // of the last cut that is sealed
	From   uint64 // raft index of its segment's first entry
	Point  Point
	Dir    string // the segment's folder

	// Installed says that the segment came from another node, with an install: then the raft log may begin behind it.
	Installed bool
}

func headOf(s *segment) *Head {
	m := s.manifest.Load()
	return &Head{Number: m.Last, From: m.From, Point: m.Cut, Dir: s.dir}
}

// load reads what is sealed, deletes what is not, and begins the active segment.
func (l *Log) load() error {
	dir := filepath.Join(l.options.Dir, segmentsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := l.look(); err != nil {
		return err
	}
	installed, err := l.loadInstall()
	if err != nil {
		return fmt.Errorf("finish an install: %w", err)
	}
	f, err := scan(dir)
	if err != nil {
		return err
	}
	for _, folder := range f.damaged {
		to, err := quarantine(l.options.Dir, folder)
		if err != nil {
			return fmt.Errorf("set a damaged segment aside: %w", err)
		}
		l.options.Logger.Error("segment set aside: its file SEALED is damaged", "segment", filepath.Base(folder), "to", to, "do", l.asideAdvice())
		l.repairs.setAside(filepath.Base(folder), to, errManifest)
	}
	if err := l.checkHead(&f, installed); err != nil {
		return err
	}
	for _, folder := range f.unsealed {
		if err := fault.Step("storage.empty", func() error { return remove(folder) }); err != nil {
			return fmt.Errorf("delete an unsealed segment: %w", err)
		}
	}
	for _, s := range f.sealed {
		s.open = l.opener(s, s.manifest.Load(), func(error) { s.hurt() })
	}
	l.set.change(func([]*segment) []*segment { return f.sealed })
	if n := len(f.sealed); n > 0 {
		h := headOf(f.sealed[n-1])
		h.Installed = installed.endsAt(h)
		l.head.Store(h)
	}
	l.loadScrub(f.sealed)
	l.next.open = func(number uint64) (*builder, error) {
		return l.newBuilder(segmentID{first: number, last: number}, ballastBytes, openSpareBytes)
	}
	l.next.wanted, l.next.log, l.next.fail = make(chan struct{}, 1), l.options.Logger, l.fail
	if err := l.forgetBelow(); err != nil {
		return fmt.Errorf("delete what was received from another node: %w", err)
	}
	return l.beginActive()
}

// beginActive makes an empty active segment behind the head.
func (l *Log) beginActive() error {
	l.number, l.from = 1, 1
	if h, ok := l.Head(); ok {
		l.number, l.from = h.Number+1, h.Point.Index+1
	}
	free, _, err := diskSpace(l.options.Dir)
	if err != nil {
		return err
	}
	b, err := l.newBuilder(segmentID{first: l.number, last: l.number}, firstBallast(free, l.options.SegmentBytes), lonelySpareBytes)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	l.activate(b)
	return nil
}

// Head is the newest sealed segment; ok is false while there is none.
func (l *Log) Head() (h Head, ok bool) {
	if p := l.head.Load(); p != nil {
		return *p, true
	}
	return Head{}, false
}

// HeadOf is the head of a stopped log's folder, read-only; ok is false if nothing is sealed there.
func HeadOf(dir string) (h Head, ok bool, err error) {
	li, err := readListing(filepath.Join(dir, installFile))
	if err == nil { // the next start finishes it
		last := li.Segments[len(li.Segments)-1]
		return Head{Number: last.Last, From: last.From, Point: li.Point, Dir: filepath.Join(dir, segmentsDir, last.Name()), Installed: true}, true, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return Head{}, false, err
	}
	f, err := scan(filepath.Join(dir, segmentsDir))
	if err != nil || len(f.sealed) == 0 {
		return Head{}, false, err
	}
	h = *headOf(f.sealed[len(f.sealed)-1])
	li, err = readListing(filepath.Join(dir, installedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Head{}, false, err
	}
	h.Installed = li.endsAt(&h)
	return h, true, nil
}

// errInstalling says that a stopped log cannot be looked at yet.
var errInstalling = errors.New("segments from another node are still to be put in their place: start the node once, which does that without the others, and stop it again")

// CheckpointOf yields the owner's state at the head of a stopped log's folder, read-only, as Checkpoint does. Nothing is sealed: it
// yields nothing. An install that was decided and did not finish is an error.
func CheckpointOf(dir string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if _, err := os.Lstat(filepath.Join(dir, installFile)); !errors.Is(err, os.ErrNotExist) {
			yield(nil, errors.Join(errInstalling, err))
			return
		}
		f, err := scan(filepath.Join(dir, segmentsDir))
		if err != nil {
			yield(nil, err)
			return
		}
		if len(f.sealed) == 0 {
			return
		}
		l := &Log{options: Options{Dir: dir}}
		l.options.setDefaults()
		l.checkpointOf(f.sealed[len(f.sealed)-1])(yield)
	}
}

// Checkpoint yields the owner's state at the head's point, as it was given to Cut. An error ends it and wraps
// ErrCorrupt if the segment is damaged. A chunk is valid until the next one.
func (l *Log) Checkpoint() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s := l.headSegment()
		if s == nil {
			return
		}
		db, err := s.enter()
		if err != nil {
			yield(nil, err)
			return
		}
		defer s.leave()
		readChunks(db, s, yield)
	}
}

func (l *Log) headSegment() *segment {
	h := l.head.Load()
	if h == nil {
		return nil
	}
	for _, s := range l.set.segments() {
		if s.last == h.Number {
			return s
		}
	}
	return nil
}

// readChunks yields the checkpoint of a sealed segment.
func readChunks(db *badger.DB, s *segment, yield func([]byte, error) bool) {
	name := filepath.Base(s.dir)
	txn := db.NewTransactionAt(timestamp, false)
	defer txn.Discard()
	var buf []byte
	for n := range s.manifest.Load().Chunks {
		err := guarded(s.hurt, func() error {
			item, err := txn.Get(key(checkpointID, topic.Offset(n)))
			if err == nil {
				buf, err = item.ValueCopy(buf)
			}
			if errors.Is(err, badger.ErrKeyNotFound) {
				err = ErrCorrupt
			}
			return err
		})
		if err != nil {
			yield(nil, fmt.Errorf("checkpoint of segment %s, chunk %d: %w", name, n, err))
			return
		}
		if !yield(buf, nil) {
			return
		}
	}
}

// Place tells the log of a partition that a checkpoint names: its first and its next record. Call it for each of them
// after Open, before anything is appended. Records behind the checkpoint's end are ErrCorrupt; whether some are missing
// is Covered's to say, once the log was replayed: they may have been trimmed since.
func (l *Log) Place(id topic.PartitionID, low, next topic.Offset) error {
	var end topic.Offset
	for _, s := range l.set.segments() {
		if e, ok := s.extent(id); ok {
			end = e.Next
		}
	}
	if end > next {
		return fmt.Errorf("partition %d: %w: the checkpoint ends at offset %d, the segments at %d: they do not belong together", id, ErrCorrupt, next, end)
	}
	l.parts.Store(id, &part{id: id, low: low, end: next, stored: next})
	return nil
}

// Covered checks that every record of a partition is in a segment or in memory. An error wraps ErrCorrupt and
// names the hole.
func (l *Log) Covered(id topic.PartitionID, low, next topic.Offset) error {
	var tail plan.Span
	if p := l.part(id); p != nil {
		tail = p.inMemory() // first: what leaves memory meanwhile is in a segment
	}
	var spans []plan.Span
	var names []string
	for _, s := range l.set.segments() {
		if e, ok := s.extent(id); ok {
			spans, names = append(spans, plan.Span{Base: int64(e.Base), Next: int64(e.Next)}), append(names, filepath.Base(s.dir))
		}
	}
	hole, before, missing := plan.Hole(int64(low), int64(next), spans, tail)
	switch {
	case !missing:
		return nil
	case before >= 0:
		return fmt.Errorf("partition %d: %w: records %d to %d are in no segment; the next are in %s", id, ErrCorrupt, hole.Base, hole.Next-1, names[before])
	}
	return fmt.Errorf("partition %d: %w: records %d to %d are in no segment", id, ErrCorrupt, hole.Base, hole.Next-1)
}

// inMemory are the records of the tail.
func (p *part) inMemory() plan.Span {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tail) == 0 {
		return plan.Span{}
	}
	return plan.Span{Base: int64(p.tail[0].Base), Next: int64(p.end)}
}
