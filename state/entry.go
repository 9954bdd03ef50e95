package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A raft entry:
//
//	+---------+------------------+   +-------------+---------+   +--
//	| version | time, unix ms    |   | length n    | command |   | ...
//	| 0x01    | 8 bytes, BE      |   | 4 bytes, BE | n bytes |   |
//	+---------+------------------+   +-------------+---------+   +--
//
// The leader stamps the time; the machine takes max(previous, stamped).

// Sizes of the framing, in bytes.
const (
	EntryHeaderBytes     = 9 // before the first command
	CommandOverheadBytes = 4 // before each command
)

const entryVersion = 1

// timeMsMax is the end of the year 9999; a later stamp is damage.
const timeMsMax = 253_402_300_799_999

// Errors of Apply and Check. They mean a damaged or newer log: the node must stop.
var (
	ErrMalformed = errors.New("malformed entry")
	ErrVersion   = errors.New("written by a newer version of waxwing; upgrade this node")
)

// AppendEntryHeader starts an entry that was stamped with nowMs (unix ms).
func AppendEntryHeader(dst []byte, nowMs int64) []byte {
	dst = append(dst, entryVersion)
	return binary.BigEndian.AppendUint64(dst, uint64(nowMs))
}

// AppendCommand adds an encoded command to the entry.
func AppendCommand(dst, cmd []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(cmd)))
	return append(dst, cmd...)
}

// entry walks the commands of an entry.
type entry struct {
	timeMs int64
	rest   []byte
}

func openEntry(b []byte) (entry, error) {
	switch {
	case len(b) == 0:
		return entry{}, fmt.Errorf("%w: it is empty", ErrMalformed)
	case b[0] != entryVersion:
		return entry{}, versionError("entry", b[0])
	case len(b) < EntryHeaderBytes:
		return entry{}, fmt.Errorf("%w: its header has %d of %d bytes", ErrMalformed, len(b), EntryHeaderBytes)
	}
	ms := binary.BigEndian.Uint64(b[1:])
	if ms > timeMsMax {
		return entry{}, fmt.Errorf("%w: time stamp %d is out of range", ErrMalformed, ms)
	}
	return entry{int64(ms), b[EntryHeaderBytes:]}, nil
}

// next returns the next command; ok is false behind the last one.
func (e *entry) next() (cmd []byte, ok bool, err error) {
	if len(e.rest) == 0 {
		return nil, false, nil
	}
	if len(e.rest) < CommandOverheadBytes {
		return nil, false, fmt.Errorf("%w: %d stray bytes behind the last command", ErrMalformed, len(e.rest))
	}
	n := uint64(binary.BigEndian.Uint32(e.rest))
	rest := e.rest[CommandOverheadBytes:]
	if n > uint64(len(rest)) {
		return nil, false, fmt.Errorf("%w: a command claims %d bytes, %d are left", ErrMalformed, n, len(rest))
	}
	cmd, e.rest = rest[:n:n], rest[n:]
	return cmd, true, nil
}

// versionError tells damage (version 0 was never written) from a newer format.
func versionError(what string, got byte) error {
	if got == 0 {
		return fmt.Errorf("%w: %s version 0", ErrMalformed, what)
	}
	return fmt.Errorf("%s version %d is unknown (this program knows 1): %w", what, got, ErrVersion)
}
