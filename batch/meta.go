package batch

import (
	"time"

	"github.com/waxwing-mq/waxwing/topic"
)

// Meta is the header of a stored batch. The broker writes every field; a client can set none.
type Meta struct {
	Flags         Flags
	Partition     topic.PartitionID
	Base          topic.Offset // of record 0
	Count         uint32
	TimeMs        int64  // append time, unix ms, never falling within a partition
	MinTTLMs      uint64 // 0 = no record has a time to live
	Publisher     string // verified principal
	SPKI          [32]byte
	PolicyVersion uint64 // the policy that let it in
	Producer      [16]byte
	Epoch         uint64
	Sequence      uint64 // of record 0
	Origin        *Origin
}

// Origin says where a batch came from that the broker itself moved (dead letters, delays, mirrors).
type Origin struct {
	Topic     string
	Partition uint32
	Offset    topic.Offset
	TimeMs    int64
	Publisher string
	SPKI      [32]byte
	Reason    string
	Count     uint64
}

// End is the offset behind the last record.
func (m *Meta) End() topic.Offset { return m.Base + topic.Offset(m.Count) }

// Time is the append time.
func (m *Meta) Time() time.Time { return time.UnixMilli(m.TimeMs) }

// Limits of header fields.
const (
	publisherBytesMax = 2100
	reasonBytesMax    = 1024
)
