package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SetAside asks the file system to set bytes [offset, offset+size) of f aside without making the file
// longer: a write into a mapped hole of a full disk is a signal, not an error. A file system that cannot is
// no error.
func SetAside(f *os.File, offset, size int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// forgetCache drops the file from the page cache, so that the next read comes from the disk.
func forgetCache(f *os.File) error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// startWriting has the kernel begin to write what a file has in memory only. It waits for nothing and takes no error away from
// a later fsync, whose work is small then: one of 256 MiB at once holds up every other on that disk.
func startWriting(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
