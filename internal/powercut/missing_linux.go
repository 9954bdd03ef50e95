package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Missing says what this machine lacks for power cuts, or nil. It tries a small disk in dir, since
// a container's root may have the commands and not the right to mount.
func Missing(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("power cuts need root, for loop devices and mounts")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return fmt.Errorf("power cuts need mkfs.ext4 (package e2fsprogs): %w", err)
	}
	d, err := NewDisk(filepath.Join(dir, "probe.img"), filepath.Join(dir, "probe"), probeBytes)
	if err != nil {
		return fmt.Errorf("power cuts need a loop device that can be mounted: %w", err)
	}
	return d.Discard()
}

const probeBytes = 16 << 20
