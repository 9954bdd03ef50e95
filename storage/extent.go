package storage

import (
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/waxwing-mq/waxwing/topic"
)

// Extent is what a segment holds of one partition: records Base to Next-1, without a hole.
type Extent struct {
	Partition       topic.PartitionID
	Base, Next      topic.Offset
	Bytes           uint64 // of stored batches
	FirstMs, LastMs int64  // append times of the first and the last batch, unix ms
}

// grow adds a batch behind the others.
func (e *Extent) grow(b *Batch) {
	if e.Next == 0 && e.Bytes == 0 {
		e.Partition, e.Base, e.FirstMs = b.Partition, b.Base, b.TimeMs
	}
	e.Next, e.LastMs = b.End(), b.TimeMs
	e.Bytes += uint64(len(b.Raw))
}

// Sum is a digest of batches that depends neither on their order nor on how values group them: replicas that
// laid the same batches out differently have the same. It is a sum, modulo 2^64, of each batch's XXH64 and
// of a mixed form of it; it finds faults, not forgers.
type Sum [2]uint64

func (s *Sum) add(raw []byte) {
	h := xxhash.Sum64(raw)
	s[0] += h
	s[1] += bits.RotateLeft64(h*0x9e3779b97f4a7c15, 31) * 0xbf58476d1ce4e5b9
}

// String is its hexadecimal form, of 32 characters.
func (s Sum) String() string { return fmt.Sprintf("%016x%016x", s[0], s[1]) }

// Contents counts what a segment holds.
type Contents struct {
	Values  uint64 // Badger values
	Batches uint64
	Records uint64
	Bytes   uint64 // of stored batches
	Sum     Sum
}

func (c *Contents) add(raw []byte, records uint32) {
	c.Batches++
	c.Records += uint64(records)
	c.Bytes += uint64(len(raw))
	c.Sum.add(raw)
}
