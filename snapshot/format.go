package snapshot

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A snapshot is a magic, a version and chunks, integers big-endian:
//
//	 0         7         8
//	+---------+---------+---------+---------+-- --+-----+
//	| WAXSNAP | version | head    | segment | ... | end |
//	|         | 0x01    |         |         |     |     |
//	+---------+---------+---------+---------+-- --+-----+
//
// A chunk:
//
//	 0      1         5         9
//	+------+---------+---------+---------------+
//	| kind | len u32 | crc u32 | len bytes     |
//	+------+---------+---------+---------------+
//
// crc is CRC-32C of the chunk's number in the stream (8 bytes, the head is 0), its kind, its len and its bytes: a chunk in
// another place does not fit. Their order:
//
//	1 head     once: where the snapshot comes from, and the list of its segments (Head)
//	2 segment  begins a segment: its description, as package storage encodes it
//	3 value    partition id (8 B), base offset (8 B), whole stored batches of that partition; by partition and offset
//	4 state    a chunk of the state machine's checkpoint; behind the values of the last segment
//	5 end      once, last: the number of chunks before it (8 B), SHA-256 of everything before it (32 B)
const (
	magic   = "WAXSNAP"
	version = 1

	magicBytes = len(magic) + 1
	chunkHead  = 9
	valueHead  = 16
	endBytes   = 8 + 32
)

// Version is the format version that this program writes and the newest that it reads.
const Version = version

// Kind says what a chunk is.
type Kind byte

// Kinds.
const (
	KindHead    Kind = 1
	KindSegment Kind = 2
	KindValue   Kind = 3
	KindState   Kind = 4
	KindEnd     Kind = 5
)

// ChunkBytesMax bounds a chunk: the description of a segment with a million partitions is below it.
const ChunkBytesMax = 64 << 20

// Errors about a stream. Errors wrap them.
var (
	ErrForeign = errors.New("this is no snapshot of waxwing")
	ErrNewer   = errors.New("a newer waxwing wrote the snapshot; use that one")
	ErrDamaged = errors.New("the snapshot is damaged or cut short; use another copy")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the crc of a chunk; head is its kind and len.
func checksum(number uint64, head, payload []byte) uint32 {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], number)
	crc := crc32.Checksum(at[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, head)
	return crc32.Update(crc, castagnoli, payload)
}
