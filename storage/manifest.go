package storage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// The file SEALED makes a folder a sealed segment. It is written last, by rename:
//
//	+---------+-----------------------------------------+----------+
//	| version | msgpack array: the fields of Manifest,  | CRC-32C  |
//	| 0x01    | in their order                          | 4 B, BE  |
//	+---------+-----------------------------------------+----------+
//
// The CRC is over everything before it.
const (
	manifestFile    = "SEALED"
	manifestVersion = 1
	manifestFields  = 16
	extentFields    = 6
	fileFields      = 3
	metaBytesMax    = 64 << 10
	nameBytesMax    = 64
)

// Errors about a manifest.
var (
	errManifest = errors.New("the file SEALED is damaged")
	// ErrNewer means that a newer program wrote the data; it is left untouched.
	ErrNewer = errors.New("a newer waxwing wrote it; use that one")
)

// Manifest says what a sealed segment holds.
type Manifest struct {
	First, Last uint64 // numbers of the cuts that it covers; equal unless it was merged
	Cut         Point  // where it ends; a merged one: where its last part ended
	From        uint64 // raft index of the first entry that it may hold records of
	Chunks      uint64 // of the checkpoint; 0 in a merged segment
	ChunkSum    uint64 // XXH64 over the chunks
	Contents    Contents
	Extents     []Extent // by partition id
	Files       []File
}

// Point is a place in the raft log where a segment was cut, and what its owner wants to know about it.
type Point struct {
	Index uint64 // of the entry behind which it was cut
	Term  uint64
	Meta  []byte // opaque
}

// File is a file of the segment as it was sealed. Sum is the CRC-32C of small files; the value log has 0: its
// batches carry their own.
type File struct {
	Name string
	Size int64
	Sum  uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// extent looks a partition up.
func (m *Manifest) extent(id topic.PartitionID) (Extent, bool) {
	i, ok := slices.BinarySearchFunc(m.Extents, id, func(e Extent, id topic.PartitionID) int { return cmp.Compare(e.Partition, id) })
	if !ok {
		return Extent{}, false
	}
	return m.Extents[i], true
}

// append encodes m.
func (m *Manifest) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, manifestVersion)
	dst = codec.AppendArray(dst, manifestFields)
	for _, v := range []uint64{m.First, m.Last, m.Cut.Index, m.Cut.Term} {
		dst = codec.AppendUint(dst, v)
	}
	dst = codec.AppendBin(dst, m.Cut.Meta)
	c := &m.Contents
	for _, v := range []uint64{m.From, m.Chunks, m.ChunkSum, c.Values, c.Batches, c.Records, c.Bytes, c.Sum[0], c.Sum[1]} {
		dst = codec.AppendUint(dst, v)
	}
	dst = appendExtents(dst, m.Extents)
	dst = codec.AppendArray(dst, len(m.Files))
	for _, f := range m.Files {
		dst = codec.AppendArray(dst, fileFields)
		dst = codec.AppendStr(dst, f.Name)
		dst = codec.AppendUint(dst, uint64(f.Size))
		dst = codec.AppendUint(dst, uint64(f.Sum))
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// appendExtents packs the extents into one bin: there may be more than an array of 65,535 holds.
func appendExtents(dst []byte, list []Extent) []byte {
	var packed []byte
	for i := range list {
		e := &list[i]
		packed = codec.AppendUint(packed, uint64(e.Partition))
		packed = codec.AppendUint(packed, uint64(e.Base))
		packed = codec.AppendUint(packed, uint64(e.Next))
		packed = codec.AppendUint(packed, e.Bytes)
		packed = codec.AppendInt(packed, e.FirstMs)
		packed = codec.AppendInt(packed, e.LastMs)
	}
	return codec.AppendBin(dst, packed)
}

// parseManifest reads and checks a SEALED file.
func parseManifest(b []byte) (*Manifest, error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: it has %d bytes", errManifest, len(b))
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), binary.BigEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("%w: CRC-32C is %08x, should be %08x", errManifest, got, want)
	}
	if body[0] != manifestVersion {
		return nil, fmt.Errorf("segment format version %d, this program knows %d: %w", body[0], manifestVersion, ErrNewer)
	}
	c := codec.NewCursor(body[1:])
	m := new(Manifest)
	if n := c.Array(manifestFields); c.Err() == nil && n != manifestFields {
		return nil, fmt.Errorf("%w: %d fields, want %d", errManifest, n, manifestFields)
	}
	for _, v := range []*uint64{&m.First, &m.Last, &m.Cut.Index, &m.Cut.Term} {
		*v = c.Uint()
	}
	m.Cut.Meta = append([]byte(nil), c.Bin(metaBytesMax)...)
	for _, v := range []*uint64{&m.From, &m.Chunks, &m.ChunkSum, &m.Contents.Values, &m.Contents.Batches, &m.Contents.Records, &m.Contents.Bytes, &m.Contents.Sum[0], &m.Contents.Sum[1]} {
		*v = c.Uint()
	}
	m.Extents = parseExtents(&c, c.Bin(len(body)))
	for range c.Array(math.MaxUint16) {
		if c.Array(fileFields) != fileFields {
			c.Fail(codec.ErrCount)
		}
		m.Files = append(m.Files, File{Name: string(c.Str(nameBytesMax)), Size: int64(c.UintMax(math.MaxInt64)), Sum: uint32(c.UintMax(math.MaxUint32))})
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	return m, m.check(len(c.Rest()))
}

func parseExtents(outer *codec.Cursor, packed []byte) []Extent {
	c := codec.NewCursor(packed)
	list := make([]Extent, 0, len(packed)/16)
	for c.More() {
		list = append(list, Extent{Partition: topic.PartitionID(c.Uint()), Base: topic.Offset(c.UintMax(math.MaxInt64)), Next: topic.Offset(c.UintMax(math.MaxInt64)),
			Bytes: c.Uint(), FirstMs: c.Int(), LastMs: c.Int()})
	}
	if c.Err() != nil {
		outer.Fail(c.Err())
	}
	return list
}

// check holds what was read to the rules that every written manifest keeps.
func (m *Manifest) check(trailing int) error {
	switch {
	case trailing > 0:
		return fmt.Errorf("%w: %d bytes behind its fields", errManifest, trailing)
	case m.First == 0 || m.First > m.Last || m.From > m.Cut.Index:
		return fmt.Errorf("%w: segments %d to %d, entries %d to %d", errManifest, m.First, m.Last, m.From, m.Cut.Index)
	}
	for i, e := range m.Extents {
		if e.Base >= e.Next || i > 0 && m.Extents[i-1].Partition >= e.Partition {
			return fmt.Errorf("%w: extent %d (partition %d, %d to %d)", errManifest, i, e.Partition, e.Base, e.Next)
		}
	}
	return nil
}
