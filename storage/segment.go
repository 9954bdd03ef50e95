package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/topic"
)

// errGone says that a segment was deleted between finding and entering it: look again.
var errGone = errors.New("the segment was deleted")

// segment is one database of the log, as its readers see it: being filled, being sealed, or sealed. A sealed
// one is opened when somebody reads it, read-only, and closed when too many are open; never under a
// reader, since closing unmaps its memory.
type segment struct {
	segmentID
	dir      string
	open     func() (*badger.DB, error) // of a sealed one
	manifest atomic.Pointer[Manifest]   // nil until it is sealed
	used     atomic.Int64               // when it was last entered, in entries of its set
	pieces   atomic.Int64               // bytes read since it was last read ahead as a whole
	spoiled  atomic.Bool                // a merge met damage in it or its neighbours: no merge until the next start
	fresh    atomic.Bool                // it was opened, and nobody has looked since whether too many are

	mu      sync.Mutex
	free    *sync.Cond                    // users fell to 0, or shut ended
	extents map[topic.PartitionID]*Extent // Guarded by mu. Until it is sealed.
	db      *badger.DB                    // Guarded by mu. nil = closed.
	users   int                           // Guarded by mu. Readers in db.
	shut    bool                          // Guarded by mu. Nobody enters: it is about to be closed and opened again.
	gone    bool                          // Guarded by mu. Deleted, or the log is closed.
	damaged bool                          // Guarded by mu. A read met a bad block: Badger would hang in Close.
}

func newSegment(dir string, id segmentID) *segment {
	s := &segment{segmentID: id, dir: dir}
	s.free = sync.NewCond(&s.mu)
	return s
}

// name is the segment's folder, and what people call it.
func (s *segment) name() string { return s.String() }

// newSealed is a segment whose SEALED was read.
func newSealed(dir string, id segmentID, m *Manifest) *segment {
	s := newSegment(dir, id)
	s.manifest.Store(m)
	return s
}

// extent returns what the segment holds of a partition now.
func (s *segment) extent(id topic.PartitionID) (Extent, bool) {
	if m := s.manifest.Load(); m != nil {
		return m.extent(id)
	}
	s.mu.Lock()
	e := s.extents[id]
	if e != nil {
		defer s.mu.Unlock()
		return *e, true
	}
	s.mu.Unlock()
	if m := s.manifest.Load(); m != nil { // it was sealed meanwhile, and the map is gone
		return m.extent(id)
	}
	return Extent{}, false
}

// each yields every extent; order is by partition for a sealed one.
func (s *segment) each(yield func(Extent)) {
	if m := s.manifest.Load(); m != nil {
		for _, e := range m.Extents {
			yield(e)
		}
		return
	}
	s.mu.Lock()
	list := make([]Extent, 0, len(s.extents))
	for _, e := range s.extents {
		list = append(list, *e)
	}
	s.mu.Unlock()
	for _, e := range list {
		yield(e)
	}
}

// enter gives a reader the database; it must call leave. The first one in waits for it to be opened.
func (s *segment) enter() (*badger.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.shut {
		s.free.Wait()
	}
	if s.gone {
		return nil, errGone
	}
	if s.db == nil {
		db, err := s.open()
		if err != nil {
			return nil, fmt.Errorf("open segment %s: %w", filepath.Base(s.dir), err)
		}
		s.db = db
		s.fresh.Store(true)
	}
	s.users++
	return s.db, nil
}

func (s *segment) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.free.Broadcast()
	}
}

// isOpen says whether it has a database now.
func (s *segment) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db != nil
}

// closeIdle closes the database if nobody reads it, and says whether it did.
func (s *segment) closeIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || s.users > 0 || s.shut || s.damaged || s.manifest.Load() == nil {
		return false
	}
	_ = s.db.Close() // read-only: there is nothing to lose
	s.db = nil
	return true
}

// shutOut waits until no reader is left and lets no new one in, until letIn.
func (s *segment) shutOut() *badger.DB {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for s.users > 0 {
		s.free.Wait()
	}
	return s.db
}

// letIn ends shutOut with another database, or with none.
func (s *segment) letIn(db *badger.DB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.shut = db, false
	s.free.Broadcast()
}

// hurt notes that a read met a bad block. Its database stays open until the process ends: after such a fault
// Badger hangs in Close.
func (s *segment) hurt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged = true
}

func (s *segment) isHurt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged
}

// close ends the segment for readers. It waits for those inside.
func (s *segment) close() error {
	db := s.shutOut()
	s.mu.Lock()
	s.gone = true
	leak := s.damaged
	s.mu.Unlock()
	s.letIn(nil)
	if db == nil || leak {
		return nil
	}
	return closeInTime(db)
}

// checkFiles compares the segment's files with its manifest, before anything is opened: a damaged table
// footer panics in one of Badger's goroutines, beyond recover.
func checkFiles(dir string, m *Manifest) error {
	for _, f := range m.Files {
		name := filepath.Join(dir, f.Name)
		info, err := os.Stat(name)
		if err != nil {
			return damaging(err)
		}
		if info.Size() != f.Size {
			return fmt.Errorf("%w: %s has %d bytes, was sealed with %d", ErrCorrupt, f.Name, info.Size(), f.Size)
		}
		if isValueLog(f.Name) {
			continue
		}
		sum, err := fileSum(name)
		if err != nil {
			return damaging(err)
		}
		if sum != f.Sum {
			return fmt.Errorf("%w: CRC-32C of %s is %08x, was sealed with %08x", ErrCorrupt, f.Name, sum, f.Sum)
		}
	}
	return nil
}

// damaging says that a file which cannot be read is damage, unless it is this process that has come to a limit.
func damaging(err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, os.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}
