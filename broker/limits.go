package broker

import (
	"errors"
	"fmt"
	"math"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Limits bound what clients can make the broker hold. docs/limits.md has the table: key, default,
// metric, code and test of each.
type Limits struct {
	RecordBytes int // one encoded record
	BatchBytes  int // the record blob of one PUBLISH
	KeyBytes    int
	HeaderBytes int // names and values of one record
	HeaderCount int

	Connections            int // of all clients together
	ConnectionsPerIdentity int
	ConnectsPerSecond      int // connections that one identity opens
	InFlightBytes          int // publishes of one identity that are not yet answered
	WindowBytes            int // the same of one connection; beyond it the broker stops reading
	HandshakesAtOnce       int
	HandshakesPerSecond    int

	Subscriptions             int // of one connection
	PartitionsPerSubscription int
	Topics                    int
	Partitions                int // of all topics together
}

// DefaultLimits are the limits of a broker that is not configured otherwise.
func DefaultLimits() Limits {
	b := batch.DefaultLimits()
	return Limits{
		RecordBytes:               b.RecordBytes,
		BatchBytes:                b.Bytes,
		KeyBytes:                  b.KeyBytes,
		HeaderBytes:               b.HeaderBytes,
		HeaderCount:               b.HeaderCount,
		Connections:               10_000,
		ConnectionsPerIdentity:    1_000,
		ConnectsPerSecond:         1_000,
		InFlightBytes:             64 << 20,
		WindowBytes:               8 << 20,
		HandshakesAtOnce:          64,
		HandshakesPerSecond:       2_000,
		Subscriptions:             256,
		PartitionsPerSubscription: 2_000,
		Topics:                    100_000,
		Partitions:                200_000,
	}
}

// LimitFault is a limit that makes no sense.
type LimitFault struct {
	Key  string // "limits.topics"
	Text string // the value, and what it may be
}

// Check reports limits that make no sense, all at once.
func (l *Limits) Check() error {
	var errs []error
	for _, f := range l.Faults() {
		errs = append(errs, fmt.Errorf("%s: %s", f.Key, f.Text))
	}
	return errors.Join(errs...)
}

// Faults are the limits that make no sense, in the order of the keys.
func (l *Limits) Faults() []LimitFault {
	var faults []LimitFault
	for _, v := range []struct {
		key        string
		value, max int
	}{
		{"record_bytes", l.RecordBytes, 16 << 20},
		{"batch_bytes", l.BatchBytes, 16 << 20},
		{"key_bytes", l.KeyBytes, 64 << 10},
		{"header_bytes", l.HeaderBytes, 1 << 20},
		{"header_count", l.HeaderCount, 1024},
		{"connections", l.Connections, 1_000_000},
		{"connections_per_identity", l.ConnectionsPerIdentity, 1_000_000},
		{"connects_per_second", l.ConnectsPerSecond, 1_000_000},
		{"in_flight_bytes", l.InFlightBytes, math.MaxInt32},
		{"window_bytes", l.WindowBytes, math.MaxInt32},
		{"handshakes_at_once", l.HandshakesAtOnce, 100_000},
		{"handshakes_per_second", l.HandshakesPerSecond, 1_000_000},
		{"subscriptions", l.Subscriptions, 100_000},
		{"partitions_per_subscription", l.PartitionsPerSubscription, assignmentsMax},
		{"topics", l.Topics, 1_000_000},
		{"partitions", l.Partitions, 10_000_000},
	} {
		if v.value < 1 || v.value > v.max {
			faults = append(faults, LimitFault{"limits." + v.key, fmt.Sprintf("%d; it must be from 1 to %d", v.value, v.max)})
		}
	}
	if l.BatchBytes < l.RecordBytes {
		faults = append(faults, LimitFault{"limits.batch_bytes", fmt.Sprintf("%d is below limits.record_bytes (%d); a batch must hold one record", l.BatchBytes, l.RecordBytes)})
	}
	if l.WindowBytes < l.BatchBytes || l.InFlightBytes < l.WindowBytes {
		faults = append(faults, LimitFault{"limits.window_bytes", fmt.Sprintf("%d; it must lie between limits.batch_bytes (%d) and limits.in_flight_bytes (%d)", l.WindowBytes, l.BatchBytes, l.InFlightBytes)})
	}
	return faults
}

// assignmentsMax keeps a SUBSCRIBED frame inside the frame limit.
const assignmentsMax = 3_000

// frameSlack is what a frame may hold besides a batch.
const frameSlack = 64 << 10

// frameBytes is the largest frame: a maximal batch, or a control message.
func (l *Limits) frameBytes() int {
	return max(l.BatchBytes, 1<<20) + frameSlack
}

// batch are the limits of a record blob.
func (l *Limits) batch() batch.Limits {
	return batch.Limits{RecordBytes: l.RecordBytes, KeyBytes: l.KeyBytes, HeaderBytes: l.HeaderBytes, HeaderCount: l.HeaderCount, Records: recordsMax, Bytes: l.BatchBytes}
}

// recordsMax is the format's own limit on records of a batch.
const recordsMax = 65535

// wire are the limits as WELCOME tells them.
func (l *Limits) wire() protocol.Limits {
	return protocol.Limits{
		FrameBytes: uint64(l.frameBytes()), BatchBytes: uint64(l.BatchBytes), RecordBytes: uint64(l.RecordBytes),
		KeyBytes: uint64(l.KeyBytes), HeaderBytes: uint64(l.HeaderBytes), HeaderCount: uint64(l.HeaderCount),
		BatchRecords: recordsMax, WindowBytes: uint64(l.WindowBytes), Subscriptions: uint64(l.Subscriptions),
	}
}
