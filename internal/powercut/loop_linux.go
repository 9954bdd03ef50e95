package powercut

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loop is a block device whose blocks are a file. The kernel lets go of it when its last user
// does, so that an unmounted image leaves nothing behind.
type loop struct {
	device string // /dev/loopN
	file   *os.File
}

// loopTries bounds the race with others for the same free device.
const loopTries = 50

// attach puts image behind a free loop device.
func attach(image string) (*loop, error) {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach image: %w", err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach image: %w", err)
	}
	defer control.Close()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("attach image: free loop device: %w", err)
		}
		l, err := configure("/dev/loop"+strconv.Itoa(n), backing)
		if !errors.Is(err, unix.EBUSY) {
			return l, err
		}
	}
	return nil, fmt.Errorf("attach image: others took the free loop device %d times", loopTries)
}

func configure(device string, backing *os.File) (*loop, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach image: %w", err)
	}
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &config); err != nil {
		return nil, errors.Join(fmt.Errorf("attach image to %s: %w", device, err), f.Close())
	}
	return &loop{device: device, file: f}, nil
}

// Fields of /sys/block/loopN/stat (Documentation/block/stat.rst).
const (
	statWrites   = 4
	statSectors  = 6
	statInFlight = 8
	statDiscards = 11
	statFields   = 12
)

// counters are what changes when the device is written to.
type counters struct{ writes, sectors, discards, inFlight uint64 }

func (l *loop) counters() (counters, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(l.device), "stat"))
	if err != nil {
		return counters{}, fmt.Errorf("write counter: %w", err)
	}
	return parseCounters(string(text))
}

func parseCounters(text string) (counters, error) {
	fields := strings.Fields(text)
	if len(fields) < statFields {
		return counters{}, fmt.Errorf("write counter: %d fields in %q", len(fields), text)
	}
	var c counters
	for field, to := range map[int]*uint64{statWrites: &c.writes, statSectors: &c.sectors, statDiscards: &c.discards, statInFlight: &c.inFlight} {
		n, err := strconv.ParseUint(fields[field], 10, 64)
		if err != nil {
			return counters{}, fmt.Errorf("write counter: %w", err)
		}
		*to = n
	}
	return c, nil
}
