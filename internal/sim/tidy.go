package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// old are the segments that may be deleted or merged.
func (w *world) old() []*segment {
	n := 0
	for n < len(w.list) && w.isSealed(w.list[n]) {
		n++
	}
	return w.list[:plan.Old(n)]
}

// isSealed says whether the running node counts a segment as sealed: its seal is done, not only on the disk.
func (w *world) isSealed(s *segment) bool {
	return s.mark == sealed && (w.head != nil && s.cuts.Last <= w.head.cuts.Last)
}

// usage is what a segment holds, and how much of it can still be read.
func (w *world) usage(s *segment) (u plan.Usage) {
	for id, e := range s.extents {
		u.Bytes += e.bytes
		u.Live += w.live(id, e)
	}
	return u
}

func (w *world) live(id topic.PartitionID, e *extent) uint64 {
	p := w.parts[id]
	if p == nil || p.gone {
		return 0
	}
	return plan.Live(int64(e.base), int64(e.next), int64(p.low), e.bytes)
}

// tidyStep goes on with deleting or merging, or looks for some.
func (w *world) tidyStep() error {
	if w.tidy == nil {
		if !w.ending && w.r.IntN(3) > 0 {
			return nil // later: what has died by then may be several neighbours
		}
		if w.tidy = w.findTidy(); w.tidy == nil {
			return nil
		}
	}
	for range 1 + w.r.IntN(6) {
		if done, err := w.runStep(w.tidy); done || err != nil {
			w.tidy = nil
			return err
		}
		if !w.ending && w.r.IntN(25) == 0 { // these moments are rare, and the ones that matter
			return w.crash()
		}
	}
	return nil
}

func (w *world) findTidy() *job {
	old := w.old()
	usage := make([]plan.Usage, len(old))
	for i, s := range old {
		usage[i] = w.usage(s)
		if usage[i].Dead() {
			w.stats.Deletes++
			return &job{fmt.Sprintf("delete %v", s.cuts), w.retire([]*segment{s}, nil)}
		}
	}
	from, to := plan.Merge(usage, segmentBytes)
	if from == to {
		return nil
	}
	return w.merge(slices.Clone(old[from:to]))
}

// retire takes segments out of the list, puts by in their place, and deletes their folders: SEALED first.
func (w *world) retire(old []*segment, by *segment) (steps []func() error) {
	steps = append(steps, func() error {
		var list []*segment
		for _, s := range w.list {
			switch {
			case s == old[0] && by != nil:
				list = append(list, by)
			case !slices.Contains(old, s):
				list = append(list, s)
			}
		}
		w.list = list
		return nil
	})
	for _, s := range old {
		steps = append(steps,
			func() error { s.mark = written; return nil },
			func() error { s.mark = unsealed; return nil },
			func() error { w.disk.remove(s); return nil })
	}
	return steps
}

// merge copies what can be read of a run into a new segment, seals it, and then deletes the run.
func (w *world) merge(run []*segment) *job {
	first, last := run[0], run[len(run)-1]
	to := newSegment(plan.Cuts{First: first.cuts.First, Last: last.cuts.Last})
	if len(run) == 1 {
		to.cuts.Generation = first.cuts.Generation + 1
	}
	to.from, to.point, to.term = first.from, last.point, last.term
	j := &job{name: fmt.Sprintf("merge %d segments into %v", len(run), to.cuts)}
	j.steps = append(j.steps, func() error { w.disk.folders = append(w.disk.folders, to); return nil })
	ids := map[topic.PartitionID]bool{}
	for _, s := range run {
		for id := range s.extents {
			ids[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		for _, s := range run {
			j.steps = append(j.steps, func() error { w.copyLive(id, s, to); return nil })
		}
	}
	j.steps = append(j.steps, func() error {
		if to.bytes() == 0 { // all of it died meanwhile
			w.disk.remove(to)
			j.steps = append(j.steps, w.retire(run, nil)...)
			return nil
		}
		w.stats.Merges++
		if len(run) > 1 && !w.ending {
			w.stats.Joined++
		}
		j.steps = append(append(j.steps, w.seals(to)...), w.retire(run, to)...)
		return nil
	})
	return j
}

// copyLive copies the batches of an extent that have something to read.
func (w *world) copyLive(id topic.PartitionID, from, to *segment) {
	e := from.extents[id]
	if e == nil || w.live(id, e) == 0 {
		return
	}
	for i := range e.batches {
		if b := &e.batches[i]; b.Base+topic.Offset(b.Count) > w.parts[id].low {
			to.add(b)
		}
	}
}
