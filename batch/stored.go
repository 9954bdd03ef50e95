package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// Version is the first byte of a stored batch.
const Version = 1

const (
	lenAt        = 1
	crcAt        = 5
	headerAt     = 9
	headerFields = 13
	originFields = 8
)

// Faults of a stored batch. Errors of Parse and Peek wrap one of them.
var (
	ErrShort   = errors.New("bytes end inside a stored batch")
	ErrVersion = errors.New("stored batch has a version that this program does not know; a newer program wrote it")
	ErrCorrupt = errors.New("stored batch is damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Overhead is an upper bound of what Append adds to the records of a batch with this meta.
func Overhead(m *Meta) int {
	n := headerAt + 160 + len(m.Publisher)
	if m.Origin != nil {
		n += 120 + len(m.Origin.Topic) + len(m.Origin.Publisher) + len(m.Origin.Reason)
	}
	return n
}

// Append appends the stored batch of m and records, which were scanned.
func Append(dst []byte, m *Meta, records []byte) []byte {
	start := len(dst)
	dst = append(dst, Version, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = appendHeader(dst, m)
	dst = append(dst, records...)
	b := dst[start:]
	binary.BigEndian.PutUint32(b[lenAt:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[crcAt:], checksum(b))
	return dst
}

// checksum is over everything but the checksum.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:crcAt], castagnoli), castagnoli, b[headerAt:])
}

func appendHeader(dst []byte, m *Meta) []byte {
	dst = codec.AppendArray(dst, headerFields)
	dst = codec.AppendUint(dst, uint64(m.Flags))
	dst = codec.AppendUint(dst, uint64(m.Partition))
	dst = codec.AppendInt(dst, int64(m.Base))
	dst = codec.AppendUint(dst, uint64(m.Count))
	dst = codec.AppendInt(dst, m.TimeMs)
	dst = codec.AppendUint(dst, m.MinTTLMs)
	dst = codec.AppendStr(dst, m.Publisher)
	dst = codec.AppendBin(dst, m.SPKI[:])
	dst = codec.AppendUint(dst, m.PolicyVersion)
	dst = codec.AppendBin(dst, m.Producer[:])
	dst = codec.AppendUint(dst, m.Epoch)
	dst = codec.AppendUint(dst, m.Sequence)
	if m.Origin == nil {
		return codec.AppendNil(dst)
	}
	return appendOrigin(dst, m.Origin)
}

func appendOrigin(dst []byte, o *Origin) []byte {
	dst = codec.AppendArray(dst, originFields)
	dst = codec.AppendStr(dst, o.Topic)
	dst = codec.AppendUint(dst, uint64(o.Partition))
	dst = codec.AppendInt(dst, int64(o.Offset))
	dst = codec.AppendInt(dst, o.TimeMs)
	dst = codec.AppendStr(dst, o.Publisher)
	dst = codec.AppendBin(dst, o.SPKI[:])
	dst = codec.AppendStr(dst, o.Reason)
	return codec.AppendUint(dst, o.Count)
}

// Batch is a parsed batch. Records and Raw are slices of what was parsed.
type Batch struct {
	Meta
	Records []byte // the blob; walk it with Records
	Raw     []byte // the whole stored batch
}

// Parse reads the first batch of b into out, checks its CRC and header, and returns what
// follows it. It allocates only when the publisher differs from the one in out, so reuse out.
func Parse(b []byte, out *Batch) (rest []byte, err error) {
	size, err := sizeOf(b)
	if err != nil {
		return nil, err
	}
	raw := b[:size:size]
	if got, want := checksum(raw), binary.BigEndian.Uint32(raw[crcAt:]); got != want {
		return nil, fmt.Errorf("%w: CRC-32C is %08x, should be %08x", ErrCorrupt, got, want)
	}
	c := codec.NewCursor(raw[headerAt:])
	parseHeader(&c, &out.Meta)
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if out.Flags&^knownFlags != 0 {
		return nil, fmt.Errorf("%w: flags %#02x", ErrVersion, out.Flags)
	}
	out.Raw, out.Records = raw, c.Rest()
	return b[size:], nil
}

// sizeOf reads version and length.
func sizeOf(b []byte) (int, error) {
	if len(b) < headerAt {
		return 0, fmt.Errorf("%w: %d bytes", ErrShort, len(b))
	}
	if b[0] != Version {
		return 0, fmt.Errorf("%w: version %d, known is %d", ErrVersion, b[0], Version)
	}
	size := binary.BigEndian.Uint32(b[lenAt:])
	if size <= headerAt {
		return 0, fmt.Errorf("%w: length %d", ErrCorrupt, size)
	}
	if uint64(size) > uint64(len(b)) {
		return 0, fmt.Errorf("%w: %d bytes of %d", ErrShort, len(b), size)
	}
	return int(size), nil
}

func parseHeader(c *codec.Cursor, m *Meta) {
	parseLife(c, m)
	c.StrInto(&m.Publisher, publisherBytesMax)
	c.Fixed(m.SPKI[:])
	m.PolicyVersion = c.Uint()
	c.Fixed(m.Producer[:])
	m.Epoch = c.Uint()
	m.Sequence = c.Uint()
	m.Origin = nil
	if !c.Nil() {
		m.Origin = parseOrigin(c)
	}
	if m.Count == 0 || m.Base > math.MaxInt64-topic.Offset(m.Count) {
		c.Fail(codec.ErrRange)
	}
}

// parseLife reads the first fields of the header, up to how long the records live.
func parseLife(c *codec.Cursor, m *Meta) {
	if c.Array(headerFields) != headerFields {
		c.Fail(codec.ErrCount)
	}
	m.Flags = Flags(c.UintMax(math.MaxUint8))
	m.Partition = topic.PartitionID(c.Uint())
	m.Base = parseOffset(c)
	m.Count = uint32(c.UintMax(math.MaxUint32))
	m.TimeMs = c.Int()
	m.MinTTLMs = c.Uint()
}

func parseOrigin(c *codec.Cursor) *Origin {
	o := new(Origin)
	if c.Array(originFields) != originFields {
		c.Fail(codec.ErrCount)
	}
	o.Topic = string(c.Str(topic.MaxBytes))
	o.Partition = uint32(c.UintMax(math.MaxUint32))
	o.Offset = parseOffset(c)
	o.TimeMs = c.Int()
	o.Publisher = string(c.Str(publisherBytesMax))
	c.Fixed(o.SPKI[:])
	o.Reason = string(c.Str(reasonBytesMax))
	o.Count = c.Uint()
	return o
}

func parseOffset(c *codec.Cursor) topic.Offset {
	return topic.Offset(c.UintMax(math.MaxInt64))
}

// Peek reads place and size of the first batch of b without checking its CRC.
func Peek(b []byte) (base topic.Offset, count uint32, size int, err error) {
	if size, err = sizeOf(b); err != nil {
		return 0, 0, 0, err
	}
	c := codec.NewCursor(b[headerAt:size])
	c.Array(headerFields)
	c.Uint()
	c.Uint()
	base = parseOffset(&c)
	count = uint32(c.UintMax(math.MaxUint32))
	if err := c.Err(); err != nil {
		return 0, 0, 0, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	return base, count, size, nil
}
