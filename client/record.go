package client

import (
	"time"

	"github.com/waxwing-mq/waxwing/batch"
)

// Header is one name and value that travels beside a record's body. Both are any
// UTF-8 text; a name may appear once per record.
type Header = batch.Header

// Record is what a client publishes. The client copies it before Publish or
// PublishAsync returns, so the slices may be reused at once.
type Record struct {
	// Key chooses the partition: records of one key keep their order. Nil means no
	// key; an empty key is a key. At most 4 KiB by default.
	Key []byte
	// Headers travel beside the body, at most 128 entries and 64 KiB by default.
	Headers []Header
	// Body is the payload, any bytes, may be empty. A whole encoded record has at
	// most 1 MiB by default.
	Body []byte
	// TTL is how long after it was appended the record is still delivered, in steps
	// of a millisecond. 0 means for ever.
	TTL time.Duration
}

// Ack is the proof that a record is durable: it is in the log of a majority of the
// brokers, each of which has fsynced it.
type Ack struct {
	Topic     string
	Partition uint32
	Offset    int64
	Time      time.Time // when the broker appended it
	// Duplicate says that the broker already had the record from an earlier attempt
	// whose answer was lost; Offset is where that one is. The record is stored once.
	Duplicate bool
}

// PublishOption changes how one record is published. The zero value changes nothing.
type PublishOption struct {
	partition    uint32
	hasPartition bool
}

// ToPartition sends the record to this partition, whatever its key says.
func ToPartition(n uint32) PublishOption {
	return PublishOption{partition: n, hasPartition: true}
}
