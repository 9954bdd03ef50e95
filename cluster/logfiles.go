package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/storage"
)

// logFiles are the files of the raft log, as raft-wal uses them. It makes and deletes them in a goroutine of its own,
// where it only logs an error: here every one is final. A file for which the disk has no room gets the reserve's.
type logFiles struct {
	types.VFS
	reserve *reserve
	fail    func(error)
}

// Create makes the next file and sets its space aside.
func (f *logFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	w, err := f.create(dir, name, size)
	if isFull(err) && f.reserve.give() {
		w, err = f.create(dir, name, size)
	}
	if err != nil {
		err = fmt.Errorf("raft log: next file: %w", err)
		f.fail(err)
		return nil, err
	}
	return writableFile{w}, nil
}

// create leaves nothing behind when it fails: raft-wal would take the remains for a file that is ready.
func (f *logFiles) create(dir, name string, size uint64) (types.WritableFile, error) {
	w, err := f.VFS.Create(dir, name, size)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, errors.Join(err, removeIfThere(filepath.Join(dir, name)))
	}
	return w, err
}

// OpenReader opens a file that is full.
func (f *logFiles) OpenReader(dir, name string) (types.ReadableFile, error) {
	r, err := f.VFS.OpenReader(dir, name)
	if err != nil {
		return nil, err
	}
	return readableFile{r}, nil
}

// OpenWriter opens the newest file.
func (f *logFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := f.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return writableFile{w}, nil
}

// readableFile and writableFile tell a disk that does not give back what was written from a log that is damaged.
type (
	readableFile struct{ types.ReadableFile }
	writableFile struct{ types.WritableFile }
)

func (f readableFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.ReadableFile.ReadAt(b, at)
	return n, unreadable(err)
}

func (f writableFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.WritableFile.ReadAt(b, at)
	return n, unreadable(err)
}

// unreadable leaves the end of a file as it is: raft-wal compares it.
func unreadable(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreadable, err)
}

// Delete removes a file whose entries are not needed any more.
func (f *logFiles) Delete(dir, name string) error {
	err := f.VFS.Delete(dir, name)
	if err != nil {
		err = fmt.Errorf("raft log: delete a file: %w", err)
		f.fail(err)
	}
	return err
}

func removeIfThere(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// isFull says whether an error means that the disk, or what we may use of it, is full.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

const (
	reserveFile    = "RESERVE"
	reserveSpacing = 2 // it is taken when, beside the guard, so many times its size is free
)

// reserve is disk space that is held back for one more file of the raft log, or for META. When somebody else has filled the disk,
// what is not a publish (trims, elections) must still be written, or space could never come back.
type reserve struct {
	name string
	size int64

	mu   sync.Mutex
	held bool // Guarded by mu. Held over file operations on purpose: they are about this one file.
}

// init finds what an earlier run left.
func (r *reserve) init(dir string, size int64) {
	r.name, r.size = filepath.Join(dir, reserveFile), size
	_, err := os.Lstat(r.name)
	r.held = err == nil
}

// give gives it up, and says whether it was there.
func (r *reserve) give() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held
	r.held = false
	return held && os.Remove(r.name) == nil
}

// look takes it when there is plenty of space.
func (r *reserve) look(s storage.Space) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held || s.Free < s.Guard+reserveSpacing*uint64(r.size) {
		return nil
	}
	f, err := os.OpenFile(r.name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("reserve of the raft log: %w", err)
	}
	r.held = true
	if err := errors.Join(storage.SetAside(f, 0, r.size), f.Close()); err != nil && !isFull(err) {
		return fmt.Errorf("reserve of the raft log: %w", err)
	}
	return nil
}
