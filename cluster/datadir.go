package cluster

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// Names in a data folder.
const (
	lockFile = "LOCK"
	nodeFile = "node.json"
	raftDir  = "raft"
)

// nodeVersion is the format of the data folder.
const nodeVersion = 1

// errNodeFile says what is damaged, and what to do.
var errNodeFile = errors.New("the file that says whose data this is is damaged; restore the data folder from a copy")

// nodeMeta is what node.json says: whose folder this is, and which of its folders: a new one under the same id has lost
// what the node promised, and may not vote in its name.
type nodeMeta struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Disk    string `json:"disk,omitempty"` // incarnation, made with the folder; "" in folders older than it
}

// DataDir is a locked data folder: no other process uses it, and it is this node's.
type DataDir struct {
	path string
	lock *os.File
	disk string
}

// Disk is the folder's incarnation: random, made with it, never changed.
func (d *DataDir) Disk() string { return d.disk }

// Lock makes the folder if it is missing, locks it, and checks that it is this node's. Take it
// before anything in the folder is touched, and hand it to Open.
func Lock(path, node string) (*DataDir, error) {
	if err := os.MkdirAll(filepath.Join(path, raftDir), 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.Chmod(filepath.Join(path, raftDir), 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	d := &DataDir{path: path, lock: lock}
	if err := d.check(node); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lockFolder takes a folder for this process alone, until the file is closed.
func lockFolder(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: another process uses it; stop that one first: %w", path, err), lock.Close())
	}
	return lock, nil
}

// check makes sure that the folder is whole and this node's.
func (d *DataDir) check(node string) error {
	if err := errors.Join(d.unfinished(), d.isRemoved()); err != nil {
		return err
	}
	return d.checkNode(node)
}

// unfinished is an error while a restore into the folder has not ended.
func (d *DataDir) unfinished() error {
	if _, err := os.Lstat(filepath.Join(d.path, restoreFile)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data folder %s: %w", d.path, errors.Join(errRestoring, err))
	}
	return nil
}

// checkNode compares node.json, or writes it into a new folder.
func (d *DataDir) checkNode(node string) error {
	name := filepath.Join(d.path, nodeFile)
	m, err := readNode(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.disk = rand.Text()
		return writeNode(name, nodeMeta{Version: nodeVersion, Node: node, Disk: d.disk})
	case err != nil:
		return fmt.Errorf("data folder: %w", err)
	case m.Node != node:
		return fmt.Errorf("%s: the folder belongs to node %q, not %q; set node.id or node.data_dir right", name, m.Node, node)
	}
	d.disk = m.Disk
	return nil
}

// writeNode writes node.json so that it is there whole or not at all.
func writeNode(name string, m nodeMeta) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	temporary := name + ".tmp"
	if err := fault.Step("node.write", func() error { return writeSynced(temporary, append(text, '\n')) }); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := fault.Step("node.rename", func() error { return os.Rename(temporary, name) }); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return fault.Step("node.syncdir", func() error {
		dir := filepath.Dir(name)
		err := syncDir(filepath.Dir(dir))
		if errors.Is(err, os.ErrPermission) {
			err = nil // a folder above that we may not open: whoever made ours for us sees to it
		}
		return errors.Join(syncDir(dir), err)
	})
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close gives the folder free. A folder that Open got is the group's to close.
func (d *DataDir) Close() error { return d.lock.Close() }
