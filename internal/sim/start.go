package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// crash takes away what is only in memory, decides what an fsync had not decided, now and then damages the newest sealed
// segment, and starts again.
func (w *world) crash() error {
	w.stats.Crashes++
	w.say("crash")
	for _, s := range w.disk.folders {
		if s.mark == written {
			s.mark = []mark{unsealed, sealed}[w.r.IntN(2)]
		}
	}
	if newest := w.newestSealed(); newest != nil && newest.cuts.Last > w.damaged && w.r.IntN(8) == 0 {
		w.say("segment %v is damaged and set aside", newest.cuts)
		w.damaged = newest.cuts.Last
		w.stats.Damaged++
		w.disk.remove(newest)
	}
	if w.r.IntN(4) == 0 {
		w.clean(w.r.IntN(3)) // a start that fails half way
		w.say("crash at the start")
	}
	return w.start()
}

func (w *world) newestSealed() (newest *segment) {
	for _, s := range w.disk.folders {
		if s.mark == sealed && (newest == nil || s.cuts.Last > newest.cuts.Last) {
			newest = s
		}
	}
	return newest
}

// clean deletes what is not sealed, but at most so many folders; less than 0 = all.
func (w *world) clean(most int) {
	for _, s := range slices.Clone(w.disk.folders) {
		if s.mark == unsealed && most != 0 {
			w.disk.remove(s)
			most--
		}
	}
}

// start is what storage and cluster do when they are opened.
func (w *world) start() error {
	w.list, w.waiting, w.parts, w.head, w.seal, w.tidy = nil, nil, map[topic.PartitionID]*part{}, nil, nil, nil
	w.clean(-1)
	if err := w.resolve(); err != nil {
		return err
	}
	if err := w.fit(); err != nil {
		return err
	}
	if err := w.restore(); err != nil {
		return err
	}
	if err := w.replay(); err != nil {
		return err
	}
	w.term++
	_, last := w.disk.bounds()
	w.disk.log = append(w.disk.log, entry{index: last + 1, term: w.term}) // raft's own, of the new term
	return w.check("after a start")
}

// resolve takes the sealed segments.
func (w *world) resolve() error {
	cuts := make([]plan.Cuts, len(w.disk.folders))
	for i, s := range w.disk.folders {
		cuts[i] = s.cuts
	}
	keep, covered, err := plan.Resolve(cuts)
	if err != nil {
		return err
	}
	found := slices.Clone(w.disk.folders)
	for _, i := range keep {
		w.list = append(w.list, found[i])
	}
	for _, i := range covered {
		w.disk.remove(found[i])
	}
	if n := len(w.list); n > 0 {
		w.head = w.list[n-1]
	}
	return nil
}

// fit holds the raft log against the newest sealed segment.
func (w *world) fit() error {
	first, last := w.disk.bounds()
	var index, term uint64
	if w.head != nil {
		index, term = w.head.point, w.head.term
	}
	fit, err := plan.FitLog(first, last, index, term, func() (uint64, error) { return w.disk.log[index-first].term, nil })
	if err != nil || fit != plan.Fits {
		return fmt.Errorf("the node refuses to start: fit %d: log %d to %d, sealed up to %d", fit, first, last, index)
	}
	return nil
}

// restore takes the state from the newest sealed segment, and begins a new one behind it.
func (w *world) restore() error {
	w.machine = state.New(state.Limits{})
	number, from := uint64(1), uint64(1)
	if w.head != nil {
		if w.head.chunks == nil {
			return fmt.Errorf("segment %v, the newest, has no checkpoint", w.head.cuts)
		}
		m, err := state.Restore(state.Limits{}, func(yield func([]byte, error) bool) {
			for _, c := range w.head.chunks {
				if !yield(c, nil) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		if m.Digest() != w.model.digests[w.head.point] {
			return fmt.Errorf("the checkpoint of segment %v is not the state behind entry %d", w.head.cuts, w.head.point)
		}
		w.machine, number, from = m, w.head.cuts.Last+1, w.head.point+1
		w.stats.Restored++
	}
	for p := range w.machine.View().Partitions() {
		for _, s := range w.list {
			if e := s.extents[p.ID]; e != nil && e.next > p.Next {
				return fmt.Errorf("partition %d ends at %d in the checkpoint, at %d in segment %v", p.ID, p.Next, e.next, s.cuts)
			}
		}
		w.parts[p.ID] = &part{low: p.Low, next: p.Next}
	}
	w.activate(number, from)
	return nil
}

// replay applies the raft log behind the sealed point.
func (w *world) replay() error {
	point := uint64(0)
	if w.head != nil {
		point = w.head.point
	}
	for i := range w.disk.log {
		if e := &w.disk.log[i]; e.index > point {
			if err := w.apply(e); err != nil {
				return fmt.Errorf("replay: %w", err)
			}
		}
	}
	return nil
}

// check compares everything with the model: nothing acknowledged is lost, moved or changed, and nothing else is there.
func (w *world) check(when string) error {
	var errs []error
	if w.machine.Digest() != w.model.truth.Digest() {
		errs = append(errs, errors.New("the state is another than that of a full replay"))
	}
	view := w.machine.View()
	live := 0
	for id, p := range w.model.parts {
		if p.gone {
			continue
		}
		live++
		got, ok := view.Partition(id)
		if !ok || got.Low != p.low || got.Next != p.next {
			errs = append(errs, fmt.Errorf("partition %d is %d to %d, want %d to %d", id, got.Low, got.Next, p.low, p.next))
			continue
		}
		errs = append(errs, w.covered(id, p), w.read(id, p))
	}
	if view.PartitionCount() != live {
		errs = append(errs, fmt.Errorf("%d partitions, want %d", view.PartitionCount(), live))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	return nil
}

// covered asks as a start does whether a record is missing.
func (w *world) covered(id topic.PartitionID, p *modelPart) error {
	var spans []plan.Span
	for _, s := range w.list {
		if e := s.extents[id]; e != nil {
			spans = append(spans, plan.Span{Base: int64(e.base), Next: int64(e.next)})
		}
	}
	if hole, _, missing := plan.Hole(int64(p.low), int64(p.next), spans, plan.Span{}); missing {
		return fmt.Errorf("partition %d: records %d to %d are in no segment", id, hole.Base, hole.Next-1)
	}
	return nil
}

// read reads a partition as a subscriber would.
func (w *world) read(id topic.PartitionID, p *modelPart) error {
	for _, want := range p.batches {
		end := want.Base + topic.Offset(want.Count)
		if end <= p.low {
			continue
		}
		got := w.find(id, max(want.Base, p.low))
		if got == nil || got.Base != want.Base || got.Count != want.Count || got.TimeMs != want.TimeMs || !slices.Equal(got.Raw, want.Raw) {
			return fmt.Errorf("partition %d: the batch at %d is lost or changed", id, want.Base)
		}
	}
	return nil
}

// find looks a record up, in the newest segment that has it.
func (w *world) find(id topic.PartitionID, offset topic.Offset) *state.Append {
	for i := len(w.list) - 1; i >= 0; i-- {
		e := w.list[i].extents[id]
		if e == nil || offset < e.base || offset >= e.next {
			continue
		}
		for k := range e.batches {
			if b := &e.batches[k]; offset >= b.Base && offset < b.Base+topic.Offset(b.Count) {
				return b
			}
		}
		return nil
	}
	return nil
}
