package storage

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A value log is mapped, and where the kernel reads ahead by megabytes, each value of 16 KiB that is not in memory yet
// costs megabytes of the disk. So nothing is read ahead but what we name: each value when it is read, and the file as
// a whole once it shows that much of it is wanted.

// aheadStep is what is named at a time: the kernel passes over what is beyond its own limit, which is seldom less.
const aheadStep = 256 << 10

// readNothingAhead tells the kernel that reads of a mapped file of this process are in random order.
func readNothingAhead(name string) error {
	name, err := filepath.EvalSymlinks(name)
	if err == nil {
		name, err = filepath.Abs(name)
	}
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if !bytes.HasSuffix(lines.Bytes(), []byte(" "+name)) {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &from, &to); err != nil {
			return err
		}
		if _, _, failed := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_RANDOM); failed != 0 {
			return failed
		}
	}
	return nil
}

// readAhead names a piece of a mapped file that is about to be read. It is only advice: a failure costs time.
func readAhead(b []byte) {
	page := uintptr(os.Getpagesize())
	if uintptr(len(b)) <= page {
		return
	}
	from := uintptr(unsafe.Pointer(&b[0])) &^ (page - 1)
	end := uintptr(unsafe.Pointer(&b[len(b)-1])) + 1
	for ; from < end; from += aheadStep {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, min(aheadStep, end-from), unix.MADV_WILLNEED)
	}
}

// readFileAhead names a whole file.
func readFileAhead(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	for at := int64(0); err == nil && at < info.Size(); at += aheadStep {
		err = unix.Fadvise(int(f.Fd()), at, aheadStep, unix.FADV_WILLNEED)
	}
}
