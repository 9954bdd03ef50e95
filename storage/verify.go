package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/topic"
)

// pacer slows a pass over a segment down; nil does not. It is told how many bytes come next.
type pacer func(bytes int) error

// verify reads a segment whole and compares it with its manifest: each batch's CRC, dense offsets, extents,
// counts, digest, checkpoint. The database is m's; hurt as in guarded. A difference is ErrCorrupt.
func verify(ctx context.Context, s *segment, m *Manifest, db *badger.DB, hurt func(), pace pacer) (err error) {
	err = warm(s.dir, m, pace)
	if err == nil {
		err = guarded(hurt, func() error { return compare(ctx, m, db) })
	}
	if err != nil {
		return fmt.Errorf("verify segment %s: %w", s.name(), err)
	}
	return nil
}

// compare reads every value in key order.
func compare(ctx context.Context, m *Manifest, db *badger.DB) error {
	v := verifier{want: m, sum: xxhash.New()}
	txn := db.NewTransactionAt(timestamp, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{}) // no prefetch: it would fault beyond recover
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := v.item(it.Item()); err != nil {
			return err
		}
	}
	return v.end()
}

// warm reads the value logs from front to back. What follows jumps through them in key order, and on a cold cache
// each jump would read megabytes ahead.
func warm(dir string, m *Manifest, pace pacer) error {
	buf := make([]byte, 1<<20)
	for _, file := range m.Files {
		if !isValueLog(file.Name) {
			continue
		}
		if err := warmFile(filepath.Join(dir, file.Name), buf, pace); err != nil {
			return err
		}
	}
	return nil
}

func warmFile(name string, buf []byte, pace pacer) error {
	f, err := os.Open(name)
	if err != nil {
		return damaging(err)
	}
	defer f.Close()
	for {
		n, err := f.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if pace != nil {
			if err := pace(n); err != nil {
				return err
			}
		}
	}
}

// verifier compares values in key order with a manifest.
type verifier struct {
	want   *Manifest
	got    Contents
	extent Extent // being read
	next   int    // index in want.Extents of the one to come
	chunks uint64
	sum    *xxhash.Digest
}

// item takes one value of a database.
func (v *verifier) item(item *badger.Item) error {
	id, base := partitionOf(item.Key()), baseOf(item.Key())
	return item.Value(func(value []byte) error {
		if id == checkpointID {
			return v.chunk(uint64(base), value)
		}
		return v.value(id, base, value)
	})
}

// chunk takes one chunk of the checkpoint.
func (v *verifier) chunk(number uint64, value []byte) error {
	if number != v.chunks {
		return fmt.Errorf("%w: chunk %d of the checkpoint follows chunk %d", ErrCorrupt, number, v.chunks)
	}
	v.chunks++
	_, _ = v.sum.Write(value)
	return nil
}

// value takes whole batches of one partition.
func (v *verifier) value(id topic.PartitionID, base topic.Offset, value []byte) error {
	if id != v.extent.Partition {
		if err := v.closeExtent(); err != nil {
			return err
		}
	}
	v.got.Values++
	return v.batches(value, id, base)
}

func (v *verifier) batches(value []byte, id topic.PartitionID, base topic.Offset) error {
	var b batch.Batch
	for len(value) > 0 {
		rest, err := batch.Parse(value, &b)
		if err != nil {
			return fmt.Errorf("partition %d at %d: %w: %w", id, base, ErrCorrupt, err)
		}
		if b.Partition != id || b.Base != base || v.extent.Bytes > 0 && b.Base != v.extent.Next {
			return fmt.Errorf("partition %d at %d: %w: batch of partition %d at %d, the one before ended at %d", id, base, ErrCorrupt, b.Partition, b.Base, v.extent.Next)
		}
		v.extent.grow(&Batch{Partition: id, Base: b.Base, Count: b.Count, TimeMs: b.TimeMs, Raw: b.Raw})
		v.got.add(b.Raw, b.Count)
		base, value = b.End(), rest
	}
	return nil
}

// closeExtent compares the extent that was read.
func (v *verifier) closeExtent() error {
	got := v.extent
	v.extent = Extent{}
	if got.Bytes == 0 {
		return nil
	}
	if v.next == len(v.want.Extents) || v.want.Extents[v.next] != got {
		return fmt.Errorf("%w: partition %d has records %d to %d, that is not what was sealed", ErrCorrupt, got.Partition, got.Base, got.Next-1)
	}
	v.next++
	return nil
}

// end compares the sums.
func (v *verifier) end() error {
	if err := v.closeExtent(); err != nil {
		return err
	}
	switch {
	case v.next != len(v.want.Extents):
		return fmt.Errorf("%w: %d partitions, sealed with %d", ErrCorrupt, v.next, len(v.want.Extents))
	case v.got != v.want.Contents:
		return fmt.Errorf("%w: it holds %+v, sealed with %+v", ErrCorrupt, v.got, v.want.Contents)
	case v.chunks != v.want.Chunks || v.chunks > 0 && v.sum.Sum64() != v.want.ChunkSum:
		return fmt.Errorf("%w: the checkpoint is not the one that was sealed (%d chunks, sealed with %d)", ErrCorrupt, v.chunks, v.want.Chunks)
	}
	return nil
}

// Verify reads the log's folder of a stopped node, read-only, and reports on each segment. An error means that the
// folder itself could not be read.
func Verify(ctx context.Context, dir string, report func(SegmentStatus)) error {
	f, err := scan(filepath.Join(dir, segmentsDir))
	if err != nil {
		return err
	}
	l := &Log{options: Options{Dir: dir}}
	l.options.setDefaults()
	for _, name := range f.damaged {
		report(SegmentStatus{Name: filepath.Base(name), Dir: name, State: StateDamaged, Fault: errManifest.Error()})
	}
	for _, name := range f.unsealed {
		report(SegmentStatus{Name: filepath.Base(name), Dir: name, State: StateUnsealed})
	}
	for _, s := range f.sealed {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		st := s.status()
		if err := l.verifyOnce(ctx, s, nil); err != nil {
			st.Fault = err.Error()
		}
		report(st)
	}
	return nil
}

// verifyOnce opens a sealed segment by a handle of its own, verifies it, and closes it. What nobody else reads leaves the
// page cache before, so that the disk is read and not memory, and again behind: a pass must not drive out what readers
// need. Pages that a reader has mapped stay.
func (l *Log) verifyOnce(ctx context.Context, s *segment, pace pacer) error {
	m := s.manifest.Load()
	if err := checkManifest(s.dir, m); err != nil {
		return fmt.Errorf("verify segment %s: %w", s.name(), err)
	}
	forget(s.dir, m)
	defer forget(s.dir, m)
	hurt := false
	db, err := l.opener(s, m, func(error) { hurt = true })()
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.name(), err)
	}
	err = verify(ctx, s, m, db, func() { hurt = true }, pace)
	if !hurt { // else Badger hangs in Close
		_ = db.Close()
	}
	return err
}

// checkManifest compares the file SEALED with what it said at the start: the next one needs it.
func checkManifest(dir string, m *Manifest) error {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return damaging(err)
	}
	if !bytes.Equal(text, m.append(nil)) {
		return fmt.Errorf("%w: %w since it was read", ErrCorrupt, errManifest)
	}
	return nil
}

// forget drops the segment's files from the page cache, as far as they are not in use.
func forget(dir string, m *Manifest) {
	for _, file := range m.Files {
		if f, err := os.Open(filepath.Join(dir, file.Name)); err == nil {
			_ = forgetCache(f)
			_ = f.Close()
		}
	}
}
