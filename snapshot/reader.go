package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/waxwing-mq/waxwing/topic"
)

// Chunk is one chunk. Its bytes are valid until the next one is read.
type Chunk struct {
	Kind    Kind
	Payload []byte
}

// Value splits a chunk of KindValue.
func (c *Chunk) Value() (id topic.PartitionID, base topic.Offset, value []byte, err error) {
	if len(c.Payload) <= valueHead {
		return 0, 0, nil, fmt.Errorf("%w: a value of %d bytes", ErrDamaged, len(c.Payload))
	}
	return topic.PartitionID(binary.BigEndian.Uint64(c.Payload)), topic.Offset(binary.BigEndian.Uint64(c.Payload[8:])), c.Payload[valueHead:], nil
}

// Reader reads a snapshot and checks it on the way. What it has handed out is as it was written; whether all of it came is
// certain only once Next has returned io.EOF.
type Reader struct {
	in     io.Reader
	head   *Head
	number uint64
	sum    hash.Hash
	buf    bytes.Buffer
	digest [sha256.Size]byte
	err    error
}

// readBytes is what a reader asks for at once.
const readBytes = 256 << 10

// NewReader reads magic, version and head.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, readBytes), sum: sha256.New()}
	if err := r.readMagic(); err != nil {
		return nil, err
	}
	c, err := r.chunk()
	if err != nil {
		return nil, err
	}
	if c.Kind != KindHead {
		return nil, fmt.Errorf("%w: it begins with a chunk of kind %d", ErrDamaged, c.Kind)
	}
	r.head, err = parseHead(c.Payload)
	return r, err
}

func (r *Reader) readMagic() error {
	var b [magicBytes]byte
	n, err := io.ReadFull(r.in, b[:])
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if n > 0 && bytes.HasPrefix(append([]byte(magic), version), b[:n]) {
			return fmt.Errorf("%w: it has %d bytes", ErrDamaged, n)
		}
		return fmt.Errorf("%w: it has %d bytes", ErrForeign, n)
	case err != nil:
		return err
	case string(b[:len(magic)]) != magic:
		return fmt.Errorf("%w: it begins with %x", ErrForeign, b[:len(magic)])
	case b[len(magic)] == 0:
		return fmt.Errorf("%w: format version 0", ErrDamaged)
	case b[len(magic)] != version:
		return fmt.Errorf("format version %d, this program knows %d: %w", b[len(magic)], version, ErrNewer)
	}
	r.sum.Write(b[:])
	return nil
}

// Head is what the snapshot says of itself.
func (r *Reader) Head() *Head { return r.head }

// Digest is the SHA-256 of everything before the end, in hex, once Next has returned io.EOF.
func (r *Reader) Digest() string { return hex.EncodeToString(r.digest[:]) }

// Next returns the next chunk behind the head. io.EOF means that the end came, that its digest is right, and that nothing
// stands behind it.
func (r *Reader) Next() (Chunk, error) {
	if r.err != nil {
		return Chunk{}, r.err
	}
	c, err := r.next()
	r.err = err
	return c, err
}

func (r *Reader) next() (Chunk, error) {
	c, err := r.chunk()
	switch {
	case err != nil:
		return Chunk{}, err
	case c.Kind == KindEnd:
		return Chunk{}, r.end(c.Payload)
	case c.Kind != KindSegment && c.Kind != KindValue && c.Kind != KindState:
		return Chunk{}, fmt.Errorf("%w: chunk %d is of kind %d", ErrDamaged, r.number-1, c.Kind)
	}
	return c, nil
}

// end compares the digest and looks behind the end.
func (r *Reader) end(payload []byte) error {
	if len(payload) != endBytes || binary.BigEndian.Uint64(payload) != r.number-1 || !bytes.Equal(payload[8:], r.digest[:]) {
		return fmt.Errorf("%w: its end does not fit the %d chunks before it", ErrDamaged, r.number-1)
	}
	var behind [1]byte
	switch n, err := io.ReadFull(r.in, behind[:]); {
	case n > 0:
		return fmt.Errorf("%w: something stands behind its end", ErrDamaged)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}

// chunk reads one chunk and checks its crc.
func (r *Reader) chunk() (Chunk, error) {
	var head [chunkHead]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return Chunk{}, cutShort(err, r.number)
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	if size > ChunkBytesMax {
		return Chunk{}, fmt.Errorf("%w: chunk %d says that it has %d bytes", ErrDamaged, r.number, size)
	}
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.in, size); err != nil { // grows as bytes come
		return Chunk{}, cutShort(err, r.number)
	}
	payload := r.buf.Bytes()
	if got, want := checksum(r.number, head[:5], payload), binary.BigEndian.Uint32(head[5:]); got != want {
		return Chunk{}, fmt.Errorf("%w: CRC-32C of chunk %d is %08x, should be %08x", ErrDamaged, r.number, got, want)
	}
	if Kind(head[0]) == KindEnd {
		r.sum.Sum(r.digest[:0])
	}
	r.sum.Write(head[:])
	r.sum.Write(payload)
	r.number++
	return Chunk{Kind: Kind(head[0]), Payload: payload}, nil
}

// cutShort says that the stream ended in a chunk.
func cutShort(err error, number uint64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in chunk %d", ErrDamaged, number)
	}
	return err
}
