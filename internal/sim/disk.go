package sim

import (
	"maps"
	"slices"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// mark is whether a folder has its file SEALED.
type mark uint8

const (
	unsealed mark = iota
	written       // renamed or removed, and the folder not fsynced: after a crash it is there or not
	sealed
)

// segment is a folder, and the database in it.
type segment struct {
	cuts        plan.Cuts
	from        uint64 // raft index of its first entry
	point, term uint64 // of the entry behind which it was cut
	mark        mark
	chunks      [][]byte // the checkpoint; nil in a merged one
	extents     map[topic.PartitionID]*extent
}

func newSegment(c plan.Cuts) *segment {
	return &segment{cuts: c, extents: map[topic.PartitionID]*extent{}}
}

// extent is what a segment holds of one partition.
type extent struct {
	base, next topic.Offset
	bytes      uint64
	batches    []state.Append
}

func (s *segment) add(a *state.Append) {
	e := s.extents[a.Partition]
	if e == nil {
		e = &extent{base: a.Base}
		s.extents[a.Partition] = e
	}
	e.batches = append(e.batches, *a)
	e.next = a.Base + topic.Offset(a.Count)
	e.bytes += uint64(len(a.Raw))
}

func (s *segment) bytes() (n uint64) {
	for _, e := range s.extents {
		n += e.bytes
	}
	return n
}

func (s *segment) partitions() []topic.PartitionID { return slices.Sorted(maps.Keys(s.extents)) }

// entry is one of the raft log.
type entry struct {
	index, term uint64
	data        []byte // nil = raft's own
}

// disk is what a crash leaves.
type disk struct {
	log     []entry // durable; its first index is log[0].index
	folders []*segment
}

// first and last are the bounds of the raft log; 0, 0 = empty.
func (d *disk) bounds() (first, last uint64) {
	if len(d.log) == 0 {
		return 0, 0
	}
	return d.log[0].index, d.log[len(d.log)-1].index
}

// drop deletes the entries below keep.
func (d *disk) drop(keep uint64) {
	d.log = slices.DeleteFunc(d.log, func(e entry) bool { return e.index < keep })
}

// remove deletes a folder.
func (d *disk) remove(s *segment) {
	d.folders = slices.DeleteFunc(d.folders, func(f *segment) bool { return f == s })
}
