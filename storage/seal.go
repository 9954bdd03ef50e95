package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// Cut ends the active segment behind an entry of the raft log.
type Cut struct {
	Number     uint64 // of the segment that ends; must be the active one
	Point      Point
	Checkpoint iter.Seq[[]byte] // the owner's state at the point, in chunks; read later, in another goroutine
}

// sealing is a segment on its way from active to sealed.
type sealing struct {
	builder *builder
	cut     Cut
	from    uint64 // raft index of its first entry
}

// closeTimeout bounds Badger's Close: it loops for ever on a persistent I/O error.
const closeTimeout = 30 * time.Second

// seal makes a segment immutable and proves that the disk has it: each step's fault leaves a folder
// without SEALED, which the next start deletes and fills again from the raft log. A step that wants disk space asks
// for it by until.
func (l *Log) seal(s sealing, until untilRoom) error {
	b := s.builder
	m := &Manifest{First: b.seg.first, Last: b.seg.last, Cut: s.cut.Point, From: s.from}
	start := time.Now()
	var err error
	step := func(name string, do func() error) {
		if err == nil {
			err = fault.Step(name, do)
		}
	}
	step("seal.checkpoint", func() (err error) {
		m.Chunks, m.ChunkSum, err = b.writeCheckpoint(s.cut.Checkpoint, until)
		return err
	})
	b.describe(m)
	step("seal.close", func() error { return l.closeBuilder(b, until) })
	step("seal.sync", func() error { return b.sync() })
	step("seal.verify", func() error { return l.readBack(b.seg, m) })
	temporary := filepath.Join(b.seg.dir, manifestFile+".tmp")
	step("seal.manifest", func() error {
		return until(func() error { return writeSynced(temporary, m.append(nil)) })
	})
	step("seal.rename", func() error { return os.Rename(temporary, filepath.Join(b.seg.dir, manifestFile)) })
	step("seal.syncdir", func() error { return syncDir(b.seg.dir) })
	if err != nil {
		return fmt.Errorf("seal segment %s: %w", filepath.Base(b.seg.dir), err)
	}
	b.seg.becomeSealed(m)
	l.checkedNow(b.seg) // it was read whole
	l.scrub.wake()
	took := time.Since(start)
	l.metrics.sealed(m, took)
	l.options.Logger.Info("segment sealed", "segment", filepath.Base(b.seg.dir), "index", m.Cut.Index, "bytes", m.Contents.Bytes, "batches", m.Contents.Batches, "partitions", len(m.Extents), "took", took.Round(time.Millisecond))
	return nil
}

// becomeSealed hands lookups over to the manifest.
func (s *segment) becomeSealed(m *Manifest) {
	s.manifest.Store(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extents = nil
}

// describe fills in what the builder counted.
func (b *builder) describe(m *Manifest) {
	m.Contents = b.contents
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	for _, e := range b.seg.extents {
		m.Extents = append(m.Extents, *e)
	}
	slices.SortFunc(m.Extents, func(a, b Extent) int { return cmp.Compare(a.Partition, b.Partition) })
}

// closeBuilder closes the database under a watchdog, when no reader is in it. Nobody opens another one
// meanwhile: it would take the space that the ballast leaves.
func (l *Log) closeBuilder(b *builder, until untilRoom) error {
	if err := until(b.room.mayClose); err != nil {
		return err
	}
	l.space.Lock()
	defer l.space.Unlock()
	if err := b.trouble.err(); err != nil {
		return err
	}
	b.seg.shutOut()
	if err := b.room.dropBallast(); err != nil {
		return err
	}
	return errors.Join(closeInTime(b.db), b.trouble.err())
}

// closeInTime closes a database, or ends with ErrStuck.
func closeInTime(db io.Closer) error {
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }() // stays behind only in a process that ends
	watchdog := time.NewTimer(closeTimeout)
	defer watchdog.Stop()
	select {
	case err := <-closed:
		return err
	case <-watchdog.C:
		return ErrStuck
	}
}

// sync makes every file and name of the segment durable, and then forgets the page cache, so that
// the read-back reads the disk.
func (b *builder) sync() error {
	if err := b.room.vlog.Sync(); err != nil {
		return err
	}
	b.room.close()
	entries, err := os.ReadDir(b.seg.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := syncAndForget(filepath.Join(b.seg.dir, e.Name())); err != nil {
			return err
		}
	}
	if err := syncDir(b.seg.dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(b.seg.dir))
}

func syncAndForget(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), forgetCache(f), f.Close())
}

// files lists what a closed database left in its folder, with the sums of the small ones.
func files(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []File
	for _, e := range entries {
		f := File{Name: e.Name()}
		if !isSealedFile(f.Name) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		f.Size = info.Size()
		if !isValueLog(f.Name) {
			if f.Sum, err = fileSum(filepath.Join(dir, f.Name)); err != nil {
				return nil, err
			}
		}
		list = append(list, f)
	}
	return list, nil
}

func isValueLog(name string) bool { return strings.HasSuffix(name, ".vlog") }

// isSealedFile says whether a file is part of what is sealed. LOCK and DISCARD are Badger's notes to itself.
func isSealedFile(name string) bool {
	return isValueLog(name) || strings.HasSuffix(name, ".sst") || name == "MANIFEST" || name == "KEYREGISTRY"
}

// readBack opens the closed segment read-only, lets readers in again, and compares all of it with what was
// written.
func (l *Log) readBack(s *segment, m *Manifest) (err error) {
	if m.Files, err = files(s.dir); err != nil {
		return err
	}
	s.open = l.opener(s, m, func(error) { s.hurt() })
	db, err := s.open()
	if err != nil {
		return err
	}
	s.letIn(db)
	if _, err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return verify(context.Background(), s, m, db, s.hurt, nil)
}

// opener opens a sealed segment for reading, after its small files were checked. trouble hears of what Badger calls an
// error.
func (l *Log) opener(s *segment, m *Manifest, trouble func(error)) func() (*badger.DB, error) {
	return func() (*badger.DB, error) {
		if err := checkFiles(s.dir, m); err != nil {
			return nil, err
		}
		log := badgerLog{l.options.Logger.With("segment", filepath.Base(s.dir)), trouble}
		o := segmentOptions(s.dir, l.options.SegmentBytes, log)
		o.ReadOnly = true
		db, err := openSealed(o)
		if err != nil {
			return nil, err
		}
		if err := s.opened(m); err != nil {
			l.options.Logger.Warn("reads of the segment will be slow where the disk reads far ahead", "segment", filepath.Base(s.dir), "error", err)
		}
		return db, nil
	}
}

// openSealed opens a database whose small files are right: what it cannot open now is damaged. It panics at some of it.
func openSealed(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	if db, err = badger.OpenManaged(o); err != nil {
		return nil, damaging(err)
	}
	return db, nil
}
