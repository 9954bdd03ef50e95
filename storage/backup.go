package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// temporarySuffix is what the name of a file has behind it until the file is whole.
const temporarySuffix = ".tmp"

// ErrExists says that a file is there and was not to be replaced.
var ErrExists = errors.New("the file exists; choose another name, or --force to replace it")

// WriteBackup makes a file of what fill writes, so that under its name there is the whole, proven file or what was there
// before: it is written under a temporary name (mode 0600), fsynced, read back from the disk by prove, renamed, and the
// folder fsynced. After an error the temporary file is gone; after a crash it may be left, and the next one of
// the name replaces it.
func WriteBackup(name string, replace bool, fill func(io.Writer) error, prove func(io.Reader) error) error {
	if _, err := os.Lstat(name); err == nil && !replace {
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	w := backupFile{name: name, temporary: name + temporarySuffix}
	err := w.write(fill)
	if err == nil {
		err = fault.Step("snapshot.prove", func() error { return w.prove(prove) })
	}
	if err == nil {
		err = fault.Step("snapshot.rename", func() error { return os.Rename(w.temporary, name) })
	}
	if err == nil {
		err = fault.Step("snapshot.syncdir", func() error { return syncDir(filepath.Dir(name)) })
	}
	if err != nil {
		_ = os.Remove(w.temporary)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

type backupFile struct {
	name, temporary string
}

// write fills the temporary file and fsyncs it.
func (w *backupFile) write(fill func(io.Writer) error) error {
	var f *os.File
	err := fault.Step("snapshot.create", func() (err error) {
		if err := os.Remove(w.temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f, err = os.OpenFile(w.temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if f == nil {
		return err
	}
	if err == nil {
		err = fault.Step("snapshot.write", func() error { return fill(f) })
	}
	if err == nil {
		err = fault.Step("snapshot.sync", f.Sync)
	}
	if err == nil {
		err = forgetCache(f)
	}
	return errors.Join(err, f.Close())
}

// prove reads the file back.
func (w *backupFile) prove(prove func(io.Reader) error) error {
	f, err := os.Open(w.temporary)
	if err != nil {
		return err
	}
	return errors.Join(prove(f), f.Close())
}
