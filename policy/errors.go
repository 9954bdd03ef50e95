package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one fault of a document.
type Error struct {
	Line int // from 1; 0 = the document as a whole
	Text string
}

func (e Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Text)
}

// Errors are all faults of a document, by line, at most 50.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// ErrLockout is what LocksOut wraps.
var ErrLockout = errors.New("policy would lock out its administrators")
