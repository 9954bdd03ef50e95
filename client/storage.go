package client

import (
	"context"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// SegmentState is where a segment of a node's log is in its life.
type SegmentState string

// States of segments.
const (
	SegmentActive    SegmentState = "active"    // being filled
	SegmentSealing   SegmentState = "sealing"   // cut, on its way to the disk
	SegmentSealed    SegmentState = "sealed"    // immutable
	SegmentDamaged   SegmentState = "damaged"   // sealed, and known to be damaged: Fault says how
	SegmentRepairing SegmentState = "repairing" // damaged, and being fetched from another node
)

// SegmentInfo describes a segment of a node's log.
type SegmentInfo struct {
	Name        string
	Dir         string // its folder on the node
	State       SegmentState
	First, Last uint64 // numbers of the cuts that it covers
	From, Index uint64 // raft indexes of its first and last entry; 0 = not sealed yet
	Partitions  int    // that it holds records of
	Values      uint64 // 0 = not sealed yet
	Batches     uint64 // 0 = not sealed yet
	Records     uint64
	Bytes       uint64    // of stored batches
	DiskBytes   uint64    // of its files
	Digest      string    // of its batches, whatever their order; "" = not sealed yet
	Checked     time.Time // when it was read whole the last time; zero = never
	Fault       string    // what is wrong with it; "" = nothing known
	Files       []SegmentFile
}

// SegmentFile is one file of a segment.
type SegmentFile struct {
	Name string
	Size uint64
	Sum  uint32 // CRC-32C; 0 = not kept: batches carry their own
}

// SegmentExtent is what a segment holds of one partition: records Base to Next-1.
type SegmentExtent struct {
	Partition   uint64 // id
	Base, Next  int64
	Bytes       uint64
	First, Last time.Time // append times
}

// ScrubInfo is how far a node's scrub is, which reads sealed segments again.
type ScrubInfo struct {
	Segment        string    // being read; "" = none
	Asked          time.Time // when a pass was asked for; zero = never since the node started
	Oldest         time.Time // of the last checks; zero = nothing is sealed
	Due            int       // segments that wait to be read
	DueBytes       uint64
	Sealed         int
	Damaged        int
	BytesPerSecond uint64
	Interval       time.Duration
}

// StorageInfo is what a node has on its disk.
type StorageInfo struct {
	Node              string
	Free, Total       uint64 // of the file system
	Guard             uint64 // publishes are refused while Free is below it
	LogFirst, LogLast uint64 // of the raft log; 0 = it is empty
	Scrub             ScrubInfo
	Segments          []SegmentInfo // oldest first
}

// Storage looks at the log of the node that the client is connected to. Get it from Client.Storage.
type Storage struct{ c *Client }

// Storage returns the part of the client that looks at a node's log.
func (c *Client) Storage() *Storage { return &Storage{c} }

// Status lists the node's segments. It needs the right "observe".
func (s *Storage) Status(ctx context.Context) (StorageInfo, error) {
	var info StorageInfo
	for after := uint64(0); ; {
		page, err := call[*protocol.Storage](ctx, s.c, "storage status", "", again, &protocol.StorageStatus{After: after})
		if err != nil {
			return info, err
		}
		segments := info.Segments
		info = StorageInfo{Node: page.Node, Free: page.Space.Free, Total: page.Space.Total, Guard: page.Space.Guard, LogFirst: page.LogFirst, LogLast: page.LogLast, Scrub: scrubInfo(&page.Scrub), Segments: segments}
		for i := range page.Segments {
			info.Segments = append(info.Segments, segmentInfo(&page.Segments[i]))
			after = page.Segments[i].Last
		}
		if !page.More || len(page.Segments) == 0 {
			return info, nil
		}
	}
}

// Extents lists what a segment holds of each partition. It needs the right "observe". ErrNotFound means that the
// segment was deleted or merged.
func (s *Storage) Extents(ctx context.Context, segment string) ([]SegmentExtent, error) {
	var list []SegmentExtent
	for from := uint64(0); ; {
		page, err := call[*protocol.Extents](ctx, s.c, "storage extents", segment, again, &protocol.StorageExtents{Segment: segment, From: from})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Extents {
			list = append(list, SegmentExtent{Partition: e.Partition, Base: e.Base, Next: e.Next, Bytes: e.Bytes, First: when(e.FirstMs), Last: when(e.LastMs)})
			from = e.Partition + 1
		}
		if !page.More || len(page.Extents) == 0 {
			return list, nil
		}
	}
}

// verifyTimeout bounds the reading of one segment when ctx does not.
const verifyTimeout = 30 * time.Minute

// Verify reads one segment whole, now, at most so many bytes a second (0 = no limit), and returns what it found: Fault
// says what is wrong. A segment that is not sealed is only described. It needs the right "admin", since it costs the
// disk's time. ErrNotFound means that the segment was deleted or merged.
func (s *Storage) Verify(ctx context.Context, segment string, bytesPerSecond uint64) (SegmentInfo, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
	}
	answer, err := call[*protocol.StorageVerified](ctx, s.c, "storage verify", segment, again, &protocol.StorageVerify{Segment: segment, BytesPerSecond: bytesPerSecond})
	if err != nil {
		return SegmentInfo{}, err
	}
	return segmentInfo(&answer.Segment), nil
}

// Scrub tells how far the scrub is; with start all sealed segments are due now, and are read again in the background.
// It needs the right "admin".
func (s *Storage) Scrub(ctx context.Context, start bool) (ScrubInfo, error) {
	answer, err := call[*protocol.StorageScrubbed](ctx, s.c, "storage scrub", "", again, &protocol.StorageScrub{Start: start})
	if err != nil {
		return ScrubInfo{}, err
	}
	return scrubInfo(&answer.Scrub), nil
}

// segmentStates are the words for the wire's states.
var segmentStates = map[protocol.SegmentState]SegmentState{
	protocol.SegmentActive: SegmentActive, protocol.SegmentSealing: SegmentSealing, protocol.SegmentSealed: SegmentSealed, protocol.SegmentDamaged: SegmentDamaged, protocol.SegmentRepairing: SegmentRepairing,
}

func segmentInfo(m *protocol.SegmentInfo) SegmentInfo {
	state, ok := segmentStates[m.State]
	if !ok {
		state = SegmentState(fmt.Sprintf("state %d", m.State))
	}
	s := SegmentInfo{Name: m.Name, Dir: m.Dir, State: state, First: m.First, Last: m.Last, From: m.From, Index: m.Index, Partitions: int(m.Partitions), Values: m.Values, Batches: m.Batches, Records: m.Records,
		Bytes: m.Bytes, DiskBytes: m.DiskBytes, Digest: m.Digest, Checked: when(m.CheckedMs), Fault: m.Fault}
	for _, f := range m.Files {
		s.Files = append(s.Files, SegmentFile{f.Name, f.Size, f.Sum})
	}
	return s
}

func scrubInfo(m *protocol.ScrubInfo) ScrubInfo {
	return ScrubInfo{Segment: m.Segment, Asked: when(m.AskedMs), Oldest: when(m.OldestMs), Due: int(m.Due), DueBytes: m.DueBytes, Sealed: int(m.Sealed), Damaged: int(m.Damaged),
		BytesPerSecond: m.BytesPerSecond, Interval: time.Duration(min(m.IntervalMs, 1<<40)) * time.Millisecond}
}
