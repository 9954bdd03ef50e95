package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/waxwing-mq/waxwing/topic"
)

// Writer encodes a snapshot, chunk by chunk. Its methods append to a buffer that is the caller's to send on. Begin comes
// first, End last.
type Writer struct {
	number uint64
	sum    hash.Hash
}

// Begin appends magic, version and head.
func (w *Writer) Begin(dst []byte, h *Head) []byte {
	start := len(dst)
	w.sum = sha256.New()
	dst = append(append(dst, magic...), version)
	w.sum.Write(dst[start:])
	return w.Chunk(dst, KindHead, h.append(nil))
}

// Chunk appends a chunk of at most ChunkBytesMax bytes.
func (w *Writer) Chunk(dst []byte, k Kind, payload []byte) []byte {
	start := len(dst)
	dst = w.head(dst, k, len(payload))
	dst = append(dst, payload...)
	w.finish(dst[start:])
	return dst
}

// Value appends a chunk of whole stored batches.
func (w *Writer) Value(dst []byte, id topic.PartitionID, base topic.Offset, value []byte) []byte {
	start := len(dst)
	dst = w.head(dst, KindValue, valueHead+len(value))
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	dst = binary.BigEndian.AppendUint64(dst, uint64(base))
	dst = append(dst, value...)
	w.finish(dst[start:])
	return dst
}

// End appends the last chunk.
func (w *Writer) End(dst []byte) []byte {
	end := binary.BigEndian.AppendUint64(make([]byte, 0, endBytes), w.number)
	return w.Chunk(dst, KindEnd, w.sum.Sum(end))
}

func (w *Writer) head(dst []byte, k Kind, size int) []byte {
	dst = append(dst, byte(k))
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	return append(dst, 0, 0, 0, 0)
}

// finish fills the crc in and adds the chunk to the digest.
func (w *Writer) finish(chunk []byte) {
	binary.BigEndian.PutUint32(chunk[5:], checksum(w.number, chunk[:5], chunk[chunkHead:]))
	w.sum.Write(chunk)
	w.number++
}
