package broker

import (
	"errors"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/storage"
)

// extentEntriesMax bounds the extents of one answer.
const extentEntriesMax = 5_000

// onStorageStatus shows this node's segments, a page at a time.
func (c *conn) onStorageStatus(m *protocol.StorageStatus) (protocol.Message, *fault) {
	log, group := c.s.options.Log, c.s.options.Group.Status()
	space := log.Space()
	answer := &protocol.Storage{Node: c.s.options.NodeID, LogFirst: group.First, LogLast: group.Last, Scrub: scrubInfo(log.ScrubStatus()),
		Space: protocol.StorageSpace{Free: space.Free, Total: space.Total, Guard: space.Guard}}
	most, bytes := pageOf(m.Max, pageEntriesMax), 0
	for _, st := range log.Status() {
		if st.First <= m.After {
			continue
		}
		if len(answer.Segments) == most || bytes > pageBytesMax {
			answer.More = true
			break
		}
		bytes += 256 + len(st.Dir) + len(st.Fault) + 48*len(st.Files)
		answer.Segments = append(answer.Segments, segmentInfo(&st))
	}
	return answer, nil
}

// pageOf is the number of entries in a page when so many were asked for; 0 = as many as there may be.
func pageOf(asked uint32, most int) int {
	if asked == 0 || int64(asked) > int64(most) {
		return most
	}
	return int(asked)
}

// onStorageExtents shows what a segment holds of each partition, a page at a time.
func (c *conn) onStorageExtents(m *protocol.StorageExtents) (protocol.Message, *fault) {
	st, err := c.s.options.Log.Segment(m.Segment)
	if err != nil {
		return nil, c.s.storageFault(err)
	}
	answer, most := &protocol.Extents{}, pageOf(m.Max, extentEntriesMax)
	for _, e := range st.Extents {
		if uint64(e.Partition) < m.From {
			continue
		}
		if len(answer.Extents) == most {
			answer.More = true
			break
		}
		answer.Extents = append(answer.Extents, protocol.ExtentInfo{Partition: uint64(e.Partition), Base: int64(e.Base), Next: int64(e.Next), Bytes: e.Bytes, FirstMs: e.FirstMs, LastMs: e.LastMs})
	}
	return answer, nil
}

// onStorageVerify reads one segment whole.
func (c *conn) onStorageVerify(m *protocol.StorageVerify) (protocol.Message, *fault) {
	perSecond := int64(min(m.BytesPerSecond, 1<<40))
	if perSecond > 0 && perSecond < storage.ScrubBytesPerSecondMin {
		return nil, invalid("%d bytes a second are too few: at least %d, or 0 for no limit", perSecond, storage.ScrubBytesPerSecondMin)
	}
	st, err := c.s.options.Log.VerifySegment(c.ctx, m.Segment, perSecond)
	if err != nil {
		return nil, c.s.storageFault(err)
	}
	return &protocol.StorageVerified{Segment: segmentInfo(&st)}, nil
}

// onStorageScrub tells how far the scrub is, and may begin a pass.
func (c *conn) onStorageScrub(m *protocol.StorageScrub) (protocol.Message, *fault) {
	if m.Start {
		c.s.options.Log.Scrub()
		c.s.log.Info("scrub of all sealed segments asked for", "by", c.peer.Principal)
	}
	return &protocol.StorageScrubbed{Scrub: scrubInfo(c.s.options.Log.ScrubStatus())}, nil
}

// storageFault is faultOf for requests about segments.
func (s *Server) storageFault(err error) *fault {
	if errors.Is(err, storage.ErrNoSegment) {
		return &fault{code: protocol.CodeNotFound, text: err.Error() + "; list them: waxwing storage status"}
	}
	return s.faultOf(err)
}

// segmentStates are the wire's names of states.
var segmentStates = map[storage.State]protocol.SegmentState{
	storage.StateActive: protocol.SegmentActive, storage.StateSealing: protocol.SegmentSealing, storage.StateSealed: protocol.SegmentSealed,
	storage.StateDamaged: protocol.SegmentDamaged,
}

func segmentInfo(st *storage.SegmentStatus) protocol.SegmentInfo {
	n := &st.Contents
	info := protocol.SegmentInfo{Name: st.Name, Dir: st.Dir, State: segmentStates[st.State], First: st.First, Last: st.Last, From: st.From, Index: st.Index,
		Partitions: uint32(len(st.Extents)), Values: n.Values, Batches: n.Batches, Records: n.Records, Bytes: n.Bytes, DiskBytes: uint64(st.DiskBytes()), CheckedMs: unixMs(st.Checked), Fault: st.Fault}
	if st.State == storage.StateSealed {
		info.Digest = n.Sum.String()
		if st.Fault != "" {
			info.State = protocol.SegmentDamaged
		}
		if st.Repairing {
			info.State = protocol.SegmentRepairing
		}
	}
	for _, f := range st.Files {
		if len(info.Files) == pageEntriesMax {
			break
		}
		info.Files = append(info.Files, protocol.SegmentFile{Name: f.Name, Size: uint64(f.Size), Sum: f.Sum})
	}
	return info
}

func scrubInfo(st storage.ScrubStatus) protocol.ScrubInfo {
	return protocol.ScrubInfo{Segment: st.Segment, AskedMs: unixMs(st.Asked), OldestMs: unixMs(st.Oldest), Due: uint32(st.Due), DueBytes: uint64(st.DueBytes), Sealed: uint32(st.Sealed), Damaged: uint32(st.Damaged),
		BytesPerSecond: uint64(st.BytesPerSecond), IntervalMs: uint64(st.Interval.Milliseconds())}
}

// unixMs is a time on the wire; 0 is none.
func unixMs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
