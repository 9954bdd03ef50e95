package client

import (
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Start says where a subscription begins. The zero value is Latest.
type Start struct {
	kind  protocol.StartKind
	value int64
	since time.Duration // with ago: resolved to a time when the subscription opens
	ago   bool
}

// Latest starts behind the newest record: only what comes from now on.
func Latest() Start { return Start{kind: protocol.StartLatest} }

// Earliest starts at the oldest record that is still there.
func Earliest() Start { return Start{kind: protocol.StartEarliest} }

// AtOffset starts at one offset. It needs exactly one partition: one topic name
// with one partition, or SubscribeOptions.Partition.
func AtOffset(n int64) Start { return Start{kind: protocol.StartOffset, value: n} }

// At starts at the first record that was appended at t or later.
func At(t time.Time) Start { return Start{kind: protocol.StartTime, value: t.UnixMilli()} }

// Since starts at the first record that was appended in the last d.
func Since(d time.Duration) Start { return Start{kind: protocol.StartTime, since: d, ago: true} }

// Tail starts n records before the end of each partition.
func Tail(n int64) Start { return Start{kind: protocol.StartTail, value: n} }

// String names the start in words, as the CLI's --from does.
func (s Start) String() string {
	switch {
	case s.ago:
		return "-" + s.since.String()
	case s.kind == protocol.StartEarliest:
		return "earliest"
	case s.kind == protocol.StartOffset:
		return fmt.Sprintf("offset %d", s.value)
	case s.kind == protocol.StartTime:
		return time.UnixMilli(s.value).UTC().Format(time.RFC3339Nano)
	case s.kind == protocol.StartTail:
		return fmt.Sprintf("tail %d", s.value)
	}
	return "latest"
}

// wire resolves the start as of now.
func (s Start) wire(now time.Time) (protocol.StartKind, int64) {
	if s.ago {
		return s.kind, now.Add(-s.since).UnixMilli()
	}
	return s.kind, s.value
}
