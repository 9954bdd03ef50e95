package storage

import (
	"fmt"
	"runtime/debug"
)

// guarded runs a step that reads mapped files. A bad block is a signal that would end the process; in this
// goroutine it becomes ErrCorrupt, and hurt is told that the database must not be closed any more. So does a panic of
// Badger's on damaged bytes.
func guarded(hurt func(), step func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			hurt()
			err = fmt.Errorf("%w: %v", ErrCorrupt, fault)
		}
	}()
	return step()
}
