package storage

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// State is where a segment is in its life.
type State string

// States. Unsealed is found in the folder of a stopped node only.
const (
	StateActive   State = "active"   // being filled
	StateSealing  State = "sealing"  // cut, and on its way to the disk
	StateSealed   State = "sealed"   // immutable
	StateUnsealed State = "unsealed" // the next start deletes it and takes its records from the raft log
	StateDamaged  State = "damaged"  // its file SEALED cannot be read: it is no part of the log
)

// SegmentStatus describes a segment.
type SegmentStatus struct {
	Name        string
	Dir         string
	State       State
	First, Last uint64 // cuts that it covers
	From, Index uint64 // raft indexes; 0 = not cut yet
	Contents    Contents
	Extents     []Extent
	Files       []File
	Checked     time.Time // when it was read whole the last time; zero = it is not sealed
	Fault       string    // what the last look at it found; "" = nothing
	Repairing   bool      // its records are being fetched from another node
}

// DiskBytes is what its files take.
func (s *SegmentStatus) DiskBytes() int64 { return sizeOf(s.Files) }

func (m *Manifest) diskBytes() int64 { return sizeOf(m.Files) }

func sizeOf(files []File) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}

// statusOf describes a segment of a running log.
func (l *Log) statusOf(s *segment) SegmentStatus {
	st := s.status()
	if list := l.set.segments(); st.State == StateSealing && s == list[len(list)-1] {
		st.State = StateActive
	}
	if st.State == StateSealed {
		f := l.scrub.finding(s)
		st.Checked, st.Fault, st.Repairing = f.checked, f.fault, f.mending
	}
	return st
}

func (s *segment) status() SegmentStatus {
	st := SegmentStatus{Name: filepath.Base(s.dir), Dir: s.dir, State: StateSealing, First: s.first, Last: s.last}
	m := s.manifest.Load()
	if m == nil {
		s.each(func(e Extent) {
			st.Extents = append(st.Extents, e)
			st.Contents.Bytes += e.Bytes
			st.Contents.Records += uint64(e.Next - e.Base)
		})
		slices.SortFunc(st.Extents, func(a, b Extent) int { return cmp.Compare(a.Partition, b.Partition) })
		st.Files = filesNow(s.dir)
		return st
	}
	st.State, st.From, st.Index, st.Contents, st.Extents, st.Files = StateSealed, m.From, m.Cut.Index, m.Contents, m.Extents, m.Files
	return st
}

// filesNow lists the files of an unsealed segment, which are about to change.
func filesNow(dir string) (list []File) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			list = append(list, File{Name: e.Name(), Size: info.Size()})
		}
	}
	return list
}

// Segment describes one segment.
func (l *Log) Segment(name string) (SegmentStatus, error) {
	s := l.set.named(name)
	if s == nil {
		return SegmentStatus{}, fmt.Errorf("segment %s: %w", name, ErrNoSegment)
	}
	return l.statusOf(s), nil
}

// Status lists the segments, oldest first, and those that were set aside at the start and whose records are missing.
func (l *Log) Status() []SegmentStatus {
	out := l.aside()
	for _, s := range l.set.segments() {
		out = append(out, l.statusOf(s))
	}
	slices.SortStableFunc(out, func(a, b SegmentStatus) int { return cmp.Compare(a.First, b.First) })
	return out
}
