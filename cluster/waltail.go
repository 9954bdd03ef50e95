package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// When a file of the raft log is full, raft-wal writes its index with the last entries, in one fsync, and only then, in
// the background, names the next file in META. A process that dies between the two leaves a last file that is
// sealed and that META calls open. raft-wal v0.4.1 opens it as it is, and refuses every append from then on, in each
// start. Here such a file is found before raft-wal uses it, and what the crash cut short is finished.

// sealedTailError says that the last file has an index.
type sealedTailError struct {
	info       types.SegmentInfo
	last       uint64 // last entry that counts
	indexStart uint64
}

func (e *sealedTailError) Error() string {
	return fmt.Sprintf("the file that begins at entry %d is sealed, and no next one is named", e.info.BaseIndex)
}

// filer is raft-wal's, but for a last file that is sealed.
type filer struct{ types.SegmentFiler }

func newFiler(dir string, vfs types.VFS) filer { return filer{segment.NewFiler(dir, vfs)} }

// RecoverTail fails with a *sealedTailError.
func (f filer) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	sealed, start, err := w.Sealed()
	if sealed && err == nil {
		err = &sealedTailError{info, w.LastIndex(), start}
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// openWAL opens raft-wal, and finishes what a crash left half done.
func openWAL(dir string, log *slog.Logger, fileBytes int, r *reserve, fail func(error)) (*wal.WAL, error) {
	meta := &walMeta{reserve: r}
	files := &logFiles{VFS: fs.New(), reserve: r, fail: fail}
	open := func() (*wal.WAL, error) {
		return wal.Open(dir, wal.WithLogger(raftLogger(log)), wal.WithMetaStore(meta), wal.WithSegmentSize(fileBytes), wal.WithSegmentFiler(newFiler(dir, files)))
	}
	w, err := open()
	if tail, ok := errors.AsType[*sealedTailError](err); ok {
		log.Info("a crash came between two files of the raft log; the step is finished", "first", tail.info.BaseIndex, "last", tail.last)
		if err = meta.finish(dir, tail); err == nil {
			w, err = open()
		}
	}
	return w, err
}

// finish names the next file, as raft-wal was about to. If the entries that the index came with do not count, because
// their commit is torn, the index does not either: it is cut off, and the file goes on.
func (m *walMeta) finish(dir string, tail *sealedTailError) error {
	name := filepath.Join(dir, segment.FileName(tail.info))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	entries := int(tail.last + 1 - tail.info.BaseIndex)
	if tail.last == 0 {
		entries = 0
	}
	indexed, err := indexEntries(f, tail.indexStart)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if indexed == entries {
		return m.rotate(tail)
	}
	end, err := committedEnd(f, entries)
	if err == nil {
		err = errors.Join(f.Truncate(end), f.Sync())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// rotate does in META what raft-wal's rotation does.
func (m *walMeta) rotate(tail *sealedTailError) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.now
	next.Segments = slices.Clone(m.now.Segments)
	old := &next.Segments[len(next.Segments)-1]
	old.SealTime, old.MaxIndex, old.IndexStart = time.Now(), tail.last, tail.indexStart
	next.Segments = append(next.Segments, types.SegmentInfo{ID: next.NextSegmentID, BaseIndex: tail.last + 1, MinIndex: tail.last + 1, SizeLimit: old.SizeLimit, Codec: old.Codec, CreateTime: time.Now()})
	next.NextSegmentID++
	return m.writeLocked(next)
}

// A file of raft-wal is a header and then frames, each padded to 8 bytes:
//
//	+------+----------+-------------------+---------+
//	| type | reserved | length, LE        | payload |
//	| 1 B  | 3 B      | 4 B; of a commit: |         |
//	|      |          | its CRC, no       |         |
//	|      |          | payload           |         |
//	+------+----------+-------------------+---------+
const (
	walHeaderBytes = 32
	walFrameBytes  = 8
	walOffsetBytes = 4 // of an entry, in the index
)

// indexEntries is the number of entries in the index whose payload begins at start.
func indexEntries(f io.ReaderAt, start uint64) (int, error) {
	kind, bytes, err := frameAt(f, int64(start)-walFrameBytes)
	if err == nil && kind != segment.FrameIndex {
		err = fmt.Errorf("%w: no index at %d", ErrCorrupt, start)
	}
	return int(bytes) / walOffsetBytes, err
}

// committedEnd is the end of the commit behind so many entries.
func committedEnd(f io.ReaderAt, entries int) (int64, error) {
	if entries == 0 {
		return 0, nil
	}
	for at := int64(walHeaderBytes); ; {
		kind, bytes, err := frameAt(f, at)
		switch {
		case err != nil:
			return 0, err
		case kind == segment.FrameEntry:
			entries--
			at += walFrameBytes + (int64(bytes)+walFrameBytes-1)/walFrameBytes*walFrameBytes
		case kind == segment.FrameCommit && entries == 0:
			return at + walFrameBytes, nil
		case kind == segment.FrameCommit:
			at += walFrameBytes
		default:
			return 0, fmt.Errorf("%w: a frame of type %d at %d", ErrCorrupt, kind, at)
		}
	}
}

// frameAt reads the header of a frame; bytes is the length of its payload.
func frameAt(f io.ReaderAt, at int64) (kind uint8, bytes uint32, err error) {
	var header [walFrameBytes]byte
	if n, err := f.ReadAt(header[:], at); n < len(header) {
		return 0, 0, err
	}
	return header[0], binary.LittleEndian.Uint32(header[4:]), nil
}
