package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// The file raft/META holds what raft-wal and raft remember beside the entries: which files there are, term and vote.
// raft-wal's own store keeps that in a bbolt file, whose values have no checksum: one flipped bit there is another
// vote, or a file of entries that is deleted as unknown. It is written whole, by temporary file and rename:
//
//	+---------+----------------------+----------+
//	| version | JSON of metaContents | CRC-32C  |
//	| 0x01    |                      | 4 B, BE  |
//	+---------+----------------------+----------+
//
// The CRC is over everything before it.
const (
	metaFile    = "META"
	metaVersion = 1
	metaExtra   = 5 // bytes around the JSON
	oldMetaFile = metadb.FileName
)

// metaContents is the whole file.
type metaContents struct {
	NextSegmentID uint64
	Segments      []types.SegmentInfo
	Stable        []stableValue // by key
}

type stableValue struct {
	Key, Value []byte
}

// walMeta is raft-wal's MetaStore on that file.
type walMeta struct {
	readOnly bool
	reserve  *reserve // given up when the disk is full; nil = there is none

	mu     sync.Mutex
	dir    string       // Guarded by mu. Set by Load.
	now    metaContents // Guarded by mu. What the file says.
	broken error        // Guarded by mu. The first failed write; what the file says then is not known.
}

var _ types.MetaStore = (*walMeta)(nil)

// Load reads the file. A folder with entries and without it is damaged: raft-wal would delete every file that it does
// not name.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dir = dir
	name := filepath.Join(dir, metaFile)
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = m.first()
	case err == nil:
		m.now, err = parseMeta(text)
	}
	if err != nil {
		return types.PersistentState{}, fmt.Errorf("%s: %w", name, err)
	}
	return types.PersistentState{NextSegmentID: m.now.NextSegmentID, Segments: m.now.Segments}, nil
}

// first is Load of a folder without the file: an empty one, or one of an earlier version.
func (m *walMeta) first() error {
	if _, err := os.Stat(filepath.Join(m.dir, oldMetaFile)); err == nil {
		return m.convert()
	}
	files, err := filepath.Glob(filepath.Join(m.dir, "*.wal"))
	if err == nil && len(files) > 0 {
		err = fmt.Errorf("%w: it is missing, and %d files of entries are there", ErrCorrupt, len(files))
	}
	return err
}

// convert takes over what raft-wal kept in its own file.
func (m *walMeta) convert() error {
	if m.readOnly {
		return errors.New("the folder was written by an earlier version: start the node once")
	}
	var old metadb.BoltMetaDB
	state, err := old.Load(m.dir)
	if err != nil {
		return errors.Join(err, old.Close())
	}
	next := metaContents{NextSegmentID: state.NextSegmentID, Segments: state.Segments}
	for _, key := range []string{termKey, voteTermKey, voteKey} {
		value, err := old.GetStable([]byte(key))
		if err != nil {
			return errors.Join(err, old.Close())
		}
		if value != nil {
			next.set([]byte(key), value)
		}
	}
	if err := errors.Join(old.Close(), m.writeLocked(next)); err != nil {
		return err
	}
	return errors.Join(os.Remove(filepath.Join(m.dir, oldMetaFile)), syncDir(m.dir))
}

// CommitState implements types.MetaStore.
func (m *walMeta) CommitState(s types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writeLocked(metaContents{NextSegmentID: s.NextSegmentID, Segments: s.Segments, Stable: m.now.Stable})
}

// GetStable returns nil for a key that was never set.
func (m *walMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.now.find(key); ok {
		return bytes.Clone(m.now.Stable[i].Value), nil
	}
	return nil, nil
}

// SetStable is durable when it returns; a nil value deletes.
func (m *walMeta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.now
	next.Stable = slices.Clone(m.now.Stable)
	next.set(key, value)
	return m.writeLocked(next)
}

// Close implements types.MetaStore: nothing is open.
func (m *walMeta) Close() error { return nil }

// writeLocked replaces the file.
func (m *walMeta) writeLocked(next metaContents) error {
	switch {
	case m.readOnly: // what a start would write is only looked at
		m.now = next
		return nil
	case m.broken != nil:
		return fmt.Errorf("refused after an earlier failure: %w", m.broken)
	}
	text, err := next.append(nil)
	if err != nil {
		return err
	}
	name := filepath.Join(m.dir, metaFile)
	step := func(point string, do func() error) {
		if err == nil {
			err = fault.Step(point, do)
		}
	}
	step("meta.write", func() error {
		err := writeSynced(name+".tmp", text)
		if isFull(err) && m.reserve.give() {
			err = writeSynced(name+".tmp", text)
		}
		return err
	})
	step("meta.rename", func() error { return os.Rename(name+".tmp", name) })
	step("meta.syncdir", func() error { return syncDir(m.dir) })
	if err != nil {
		m.broken = fmt.Errorf("write %s: %w", name, err)
		return m.broken
	}
	m.now = next
	return nil
}

// find returns the place of a key.
func (c *metaContents) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(c.Stable, key, func(v stableValue, key []byte) int { return bytes.Compare(v.Key, key) })
}

// set changes, adds or (nil) removes a value.
func (c *metaContents) set(key, value []byte) {
	i, ok := c.find(key)
	switch {
	case value == nil && ok:
		c.Stable = slices.Delete(c.Stable, i, i+1)
	case value == nil:
	case ok:
		c.Stable[i].Value = bytes.Clone(value)
	default:
		c.Stable = slices.Insert(c.Stable, i, stableValue{bytes.Clone(key), bytes.Clone(value)})
	}
}

// append encodes the file.
func (c *metaContents) append(dst []byte) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(append(dst, metaVersion), text...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

// parseMeta reads and checks the file.
func parseMeta(b []byte) (c metaContents, err error) {
	if len(b) < metaExtra {
		return c, fmt.Errorf("%w: it has %d bytes", ErrCorrupt, len(b))
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), binary.BigEndian.Uint32(b[len(body):]); got != want {
		return c, fmt.Errorf("%w: its CRC-32C is %08x, should be %08x", ErrCorrupt, got, want)
	}
	if body[0] != metaVersion {
		return c, fmt.Errorf("format version %d, this program knows %d: a newer program wrote it: use that one", body[0], metaVersion)
	}
	d := json.NewDecoder(bytes.NewReader(body[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return c, nil
}

// errReadOnly refuses a change while a folder is only looked at.
var errReadOnly = errors.New("the folder is open for reading only")
