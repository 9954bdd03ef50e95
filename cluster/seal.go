package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// raft-wal checks nothing when it reads an entry: a flipped bit comes back as data, without
// an error. So each entry carries a seal in front of its Extensions, a field that raft
// leaves to its users and raft-wal stores, integers big-endian:
//
//	 0         1         5
//	+---------+---------+------------------------+
//	| version | crc u32 | extensions of the entry |
//	| 0x01    |         |                         |
//	+---------+---------+------------------------+
//
// crc is CRC-32C of index, term (8 bytes each), type (1), the entry's own extensions and its
// data. The data is not copied for it.
const (
	sealVersion = 1
	sealBytes   = 5
)

// ErrCorrupt is wrapped by every error about a log that is damaged.
var ErrCorrupt = errors.New("the raft log is damaged; restore the data folder from a copy")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// withSeal returns l as it goes to disk. It shares l's data.
func withSeal(l *raft.Log) *raft.Log {
	out := *l
	out.Extensions = make([]byte, sealBytes, sealBytes+len(l.Extensions))
	out.Extensions[0] = sealVersion
	binary.BigEndian.PutUint32(out.Extensions[1:], checksum(l))
	out.Extensions = append(out.Extensions, l.Extensions...)
	return &out
}

// unseal checks an entry that was read and gives it its own extensions back.
func unseal(l *raft.Log) error {
	seal := l.Extensions
	switch {
	case len(seal) < sealBytes:
		return fmt.Errorf("%w: entry %d has no checksum", ErrCorrupt, l.Index)
	case seal[0] != sealVersion:
		return fmt.Errorf("entry %d has format version %d, this program knows %d: a newer program wrote it, or %w", l.Index, seal[0], sealVersion, ErrCorrupt)
	}
	if l.Extensions = seal[sealBytes:]; len(l.Extensions) == 0 {
		l.Extensions = nil
	}
	if got, want := checksum(l), binary.BigEndian.Uint32(seal[1:]); got != want {
		return fmt.Errorf("%w: CRC-32C of entry %d is %08x, should be %08x", ErrCorrupt, l.Index, got, want)
	}
	return nil
}

// checksum is over all of an entry that matters.
func checksum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	crc := crc32.Checksum(head[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, l.Extensions)
	return crc32.Update(crc, castagnoli, l.Data)
}
