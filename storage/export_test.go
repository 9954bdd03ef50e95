package storage

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/topic"
)

// Flush makes the log write everything queued and seal what was cut, as Run would.
func (l *Log) Flush() error {
	for {
		if err := l.writeQueued(context.Background()); err != nil {
			l.fail(err)
			return err
		}
		select {
		case s := <-l.sealing:
			if err := l.sealOne(context.Background(), s); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// SetValue puts a value under a key of the active database: what a damaged disk might give back.
func (l *Log) SetValue(p topic.PartitionID, base topic.Offset, value []byte) error {
	return l.change(func(wb *badger.WriteBatch) error { return wb.Set(key(p, base), value) })
}

// DeleteValue makes a hole.
func (l *Log) DeleteValue(p topic.PartitionID, base topic.Offset) error {
	return l.change(func(wb *badger.WriteBatch) error { return wb.Delete(key(p, base)) })
}

func (l *Log) change(do func(*badger.WriteBatch) error) error {
	wb := l.active.db.NewWriteBatchAt(timestamp)
	defer wb.Cancel()
	if err := do(wb); err != nil {
		return err
	}
	return wb.Flush()
}

// Values lists base offset and size of a partition's values in the active database.
func (l *Log) Values(p topic.PartitionID) (bases []topic.Offset, sizes []int) {
	txn := l.active.db.NewTransactionAt(timestamp, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: key(p, 0)[:8]})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		bases = append(bases, baseOf(it.Item().Key()))
		sizes = append(sizes, int(it.Item().ValueSize()))
	}
	return bases, sizes
}

// TailBytes is the memory of all tails.
func (l *Log) TailBytes() int64 { return l.cache.size() }

// SegmentOptions are the options of a segment's database.
func SegmentOptions(dir string) badger.Options { return segmentOptions(dir, SegmentBytesDefault, nil) }

// WriteNewerManifest replaces a SEALED file by one of the next version.
func WriteNewerManifest(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	b = b[:len(b)-4]
	b[0] = manifestVersion + 1
	return os.WriteFile(name, binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), 0o600)
}

// FindingsParse reads a SCRUB file.
func FindingsParse(b []byte) error { _, err := parseFindings(b); return err }

// ManifestBytes is a SEALED file without its sum.
func ManifestBytes(m *Manifest) []byte {
	b := m.append(nil)
	return b[:len(b)-4]
}

// ParseManifest reads a SEALED file.
func ParseManifest(b []byte) (*Manifest, error) { return parseManifest(b) }

// MergeAll merges every old segment by itself, which sorts it.
func (l *Log) MergeAll(ctx context.Context) error {
	for _, s := range l.old() {
		if err := l.merge(ctx, []*segment{s}); err != nil {
			return err
		}
	}
	return nil
}

// CloseSealed closes the sealed segments, which unmaps their files: what is mapped stays in the page cache.
func (l *Log) CloseSealed() {
	for _, s := range l.set.segments() {
		s.closeIdle()
	}
}

// OpenSealed opens them.
func (l *Log) OpenSealed() error {
	for _, s := range l.set.segments() {
		if _, err := s.enter(); err != nil {
			return err
		}
		s.leave()
		s.pieces.Store(0)
	}
	return nil
}

// WriteCut makes the log write everything queued, and leaves what was cut as it is until Flush: on its way to be sealed.
func (l *Log) WriteCut() error { return l.writeQueued(context.Background()) }

// KeepOpen bounds the sealed segments that stay open.
func (l *Log) KeepOpen(most int) { l.set.most = most }

// Open counts the sealed segments that are open.
func (l *Log) Open() (n int) {
	for _, s := range l.set.segments() {
		if s.manifest.Load() != nil && s.isOpen() {
			n++
		}
	}
	return n
}

// MergeRun merges the sealed segments of the cuts first to last into one.
func (l *Log) MergeRun(ctx context.Context, first, last uint64) error {
	var run []*segment
	for _, s := range l.sealedSegments() {
		if first <= s.first && s.last <= last {
			run = append(run, s)
		}
	}
	l.tidy.mu.Lock()
	defer l.tidy.mu.Unlock()
	return l.merge(ctx, run)
}
