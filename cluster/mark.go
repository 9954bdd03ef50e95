package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The file raft/MARK holds an index up to which entries were durable once: what the log must reach at the next start.
// raft-wal takes damage in its newest file for a write that was cut short, and drops everything behind it without an
// error; nothing in the log itself can tell the two apart. The file is one small block, written in place behind each
// append and synced now and then: a kill leaves it exact, a power cut a little behind, never ahead.
//
//	 0         1             9
//	+---------+-------------+----------+
//	| version | index, 8 B, | CRC-32C  |
//	| 0x01    | BE          | 4 B, BE  |
//	+---------+-------------+----------+
const (
	markFile    = "MARK"
	markVersion = 1
	markBytes   = 13
)

// errMark says that the file cannot be read; then it says nothing.
var errMark = errors.New("the file MARK is damaged")

// mark is that file, open.
type mark struct {
	file *os.File

	mu    sync.Mutex
	index uint64 // Guarded by mu.
	dirty bool   // Guarded by mu. Written since the last sync.
}

// openMark reads the file or makes it. Damage wraps errMark: the mark that is returned with it knows of no entry, and
// can be used.
func openMark(dir string) (*mark, error) {
	f, err := os.OpenFile(filepath.Join(dir, markFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	m := &mark{file: f}
	m.index, err = readMark(f)
	if errors.Is(err, errMark) {
		if cut := f.Truncate(0); cut == nil {
			return m, err
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// readMark reads the index; an empty file says 0.
func readMark(r io.ReaderAt) (uint64, error) {
	var b [markBytes + 1]byte
	n, err := r.ReadAt(b[:], 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return 0, err
	case n == 0:
		return 0, nil
	case n == markBytes && b[0] > markVersion && crc32.Checksum(b[:9], castagnoli) == binary.BigEndian.Uint32(b[9:]):
		return 0, fmt.Errorf("%s: format version %d, this program knows %d: a newer program wrote it: use that one", markFile, b[0], markVersion)
	case n != markBytes, b[0] != markVersion, crc32.Checksum(b[:9], castagnoli) != binary.BigEndian.Uint32(b[9:]):
		return 0, fmt.Errorf("%w: %x", errMark, b[:n])
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}

// raise notes that everything up to index is durable.
func (m *mark) raise(index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writeLocked(index)
}

// lower notes, durably, that entries above index are about to be deleted.
func (m *mark) lower(index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index >= m.index {
		return nil
	}
	if err := m.writeLocked(index); err != nil {
		return err
	}
	m.dirty = false
	return m.file.Sync()
}

func (m *mark) writeLocked(index uint64) error {
	b := make([]byte, 0, markBytes)
	b = append(b, markVersion)
	b = binary.BigEndian.AppendUint64(b, index)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := m.file.WriteAt(b, 0); err != nil {
		return err
	}
	m.index, m.dirty = index, true
	return nil
}

// sync makes it durable if it changed.
func (m *mark) sync() error {
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = false
	m.mu.Unlock()
	if !dirty {
		return nil
	}
	return m.file.Sync()
}

func (m *mark) close() error { return errors.Join(m.sync(), m.file.Close()) }
