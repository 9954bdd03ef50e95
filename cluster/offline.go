package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/storage"
)

// LockReading locks the data folder of a stopped node for a look at it: nobody may start on it meanwhile. It writes
// nothing.
func LockReading(path string) (*DataDir, error) {
	lock, err := os.Open(filepath.Join(path, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is no data folder of a node: it has no file %s", path, lockFile)
	}
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: a broker uses it (%w); ask that one instead, or stop it first", path, err), lock.Close())
	}
	return &DataDir{path: path, lock: lock}, nil
}

// Report is what a look at a stopped node's data folder found besides the segments.
type Report struct {
	Node      string // whose folder it is; "" = node.json is damaged or missing
	NodeFault string // what is wrong with node.json; "" = nothing

	First, Last uint64 // of the raft log; 0 = it is empty
	Mark        uint64 // what the log must reach; 0 = not known
	Entries     uint64 // that were read
	Bytes       uint64 // of their commands
	LogFault    string // the first thing that is wrong with the log; "" = nothing
}

// Check reads node.json and every entry of the raft log, and holds the log against the newest sealed segment as a start
// would. An error means that ctx ended.
func (d *DataDir) Check(ctx context.Context, sealed func() (storage.Head, bool)) (Report, error) {
	var r Report
	m, err := readNode(filepath.Join(d.path, nodeFile))
	if unfinished := d.unfinished(); unfinished != nil {
		err = unfinished
	}
	if err != nil {
		r.NodeFault = fmt.Sprint(err)
	}
	r.Node = m.Node
	if err := r.checkLog(ctx, filepath.Join(d.path, raftDir), sealed); err != nil {
		r.LogFault = fmt.Sprint(err)
	}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	return r, nil
}

// readNode reads node.json.
func readNode(name string) (m nodeMeta, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s: %w: it is not JSON: %w", name, errNodeFile, err)
	}
	switch {
	case m.Version > nodeVersion:
		return m, fmt.Errorf("%s: format version %d, this program knows %d; a newer program wrote it: use that one", name, m.Version, nodeVersion)
	case m.Version < 1:
		return m, fmt.Errorf("%s: %w: format version %d", name, errNodeFile, m.Version)
	}
	return m, nil
}

// openReading opens the raft log of a stopped node, as a start would find it, and changes nothing.
func openReading(dir string, sealed func() (storage.Head, bool)) (*store, error) {
	w, err := wal.Open(dir, wal.WithLogger(raftLogger(slog.New(slog.DiscardHandler))), wal.WithMetaStore(&walMeta{readOnly: true}), wal.WithSegmentFiler(segment.NewFiler(dir, readFS{fs.New()})))
	if err != nil {
		return nil, corrupt(err)
	}
	s := &store{wal: w, mark: new(mark), sealed: sealed, fail: func(error) {}, readOnly: true}
	if s.mark.index, err = markOf(dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return s, nil
}

// checkLog walks over the raft log.
func (r *Report) checkLog(ctx context.Context, dir string, sealed func() (storage.Head, bool)) error {
	s, err := openReading(dir, sealed)
	if err != nil {
		return err
	}
	defer s.wal.Close()
	r.Mark = s.mark.index
	if r.First, r.Last, err = s.bounds(); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	for i := r.First; i <= r.Last && i > 0 && ctx.Err() == nil; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return err
		}
		r.Entries++
		r.Bytes += uint64(len(l.Data))
	}
	return nil
}

// markOf reads MARK; a missing one says 0.
func markOf(dir string) (uint64, error) {
	f, err := os.Open(filepath.Join(dir, markFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return readMark(f)
}

// readFS lets raft-wal recover a log as at a start, and changes nothing.
type readFS struct{ *fs.FS }

// Create stands in for a file that a start would make anew: the tail that is missing, or the first one.
func (readFS) Create(string, string, uint64) (types.WritableFile, error) { return noFile{}, nil }

// Delete keeps what a start would clean up.
func (readFS) Delete(string, string) error { return nil }

func (readFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return readFile{f}, nil
}

// readFile is a file that is not written.
type readFile struct{ *os.File }

func (readFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }

// noFile is empty.
type noFile struct{}

func (noFile) ReadAt([]byte, int64) (int, error)  { return 0, io.EOF }
func (noFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (noFile) Sync() error                        { return nil }
func (noFile) Close() error                       { return nil }
