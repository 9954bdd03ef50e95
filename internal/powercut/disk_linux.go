package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountOptions keep the kernel from writing what nobody asked it to write: without an fsync,
// nothing reaches the device for minutes, and so nothing is in a copy by luck.
const mountOptions = "noinit_itable,commit=300"

// Disk is an ext4 file system in an image file, mounted.
type Disk struct {
	Dir string // where it is mounted

	image string
	loop  *loop
}

// NewDisk makes an image of so many bytes, with an empty file system, and mounts it on dir, which
// it makes. The image is sparse: it takes the space of what is written.
func NewDisk(image, dir string, bytes int64) (*Disk, error) {
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("new disk: %w", err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		return nil, fmt.Errorf("new disk: %w", err)
	}
	// The file is all zeros, so tables and journal need no zeros written.
	mkfs := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-N", strconv.Itoa(inodes), "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image)
	if out, err := mkfs.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("new disk: mkfs.ext4: %w: %s", err, out)
	}
	return Mount(image, dir)
}

// inodes is the number of files that a disk can hold.
const inodes = 4096

// Mount mounts an image on dir, which it makes. What the journal of the file system holds is
// replayed, as it is after a power cut.
func Mount(image, dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mount image: %w", err)
	}
	l, err := attach(image)
	if err != nil {
		return nil, err
	}
	defer l.file.Close() // from here on the mount keeps it
	if err := unix.Mount(l.device, dir, "ext4", unix.MS_NOATIME, mountOptions); err != nil {
		return nil, fmt.Errorf("mount %s on %s: %w", l.device, dir, err)
	}
	return &Disk{Dir: dir, image: image, loop: l}, nil
}

// cutTries bounds how often a copy is begun anew because the kernel wrote meanwhile.
const cutTries = 20

// Cut copies the image as it is beneath the file system. What the file system has only in memory is
// not in the copy: that is the power cut. Whoever writes to the disk must stand still; the kernel
// may yet write by itself, and a copy during which it did is no moment in time, so it is made anew.
func (d *Disk) Cut(to string) error {
	for range cutTries {
		before, err := d.loop.counters()
		if err != nil {
			return err
		}
		if err := copySparse(d.image, to); err != nil {
			return fmt.Errorf("copy image: %w", err)
		}
		after, err := d.loop.counters()
		if err != nil {
			return err
		}
		if before == after && after.inFlight == 0 {
			return nil
		}
	}
	return fmt.Errorf("copy image: the disk was written to in each of %d tries; does the broker stand still?", cutTries)
}

// Discard unmounts the disk and removes its image. Nothing is written for it: the content is over.
func (d *Disk) Discard() error {
	if d == nil {
		return nil
	}
	shutdown(d.Dir)
	err := unix.Unmount(d.Dir, 0)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(d.Dir, unix.MNT_DETACH) // somebody looks into it; it goes when they do
	}
	if err != nil {
		err = fmt.Errorf("unmount %s: %w", d.Dir, err)
	}
	return errors.Join(err, os.Remove(d.image), os.Remove(d.Dir))
}

// FS_IOC_SHUTDOWN and its flag, which golang.org/x/sys does not name.
const (
	fsShutdown           = 0x8004587d
	fsShutdownNoLogFlush = 2
)

// shutdown makes the file system forget what it has not written, which saves the time to write it.
// Where it fails, the unmount takes longer, that is all.
func shutdown(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, fsShutdownNoLogFlush)
}
