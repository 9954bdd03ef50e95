package batch

import "encoding/binary"

// Seal gives any bytes the version, length and checksum of a stored batch.
func Seal(b []byte) []byte {
	b[0] = Version
	binary.BigEndian.PutUint32(b[lenAt:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[crcAt:], checksum(b))
	return b
}
