package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// Sizes that make a few hundred entries a long life.
const (
	segmentBytes = 12_000
	logWindow    = 6
)

// Stats counts what a schedule did, so that a test can see that it did something.
type Stats struct {
	Entries, Crashes, Seals, Merges, Joined, Deletes, Damaged, Restored, Repeats int
}

// world is a node, its disk, and the model beside it.
type world struct {
	r     *rand.Rand
	trace []string
	stats Stats
	model *model
	disk  disk
	nowMs int64
	term  uint64

	// What a crash takes away.
	machine *state.Machine
	list    []*segment // all of the log's, oldest first; the last one is active
	waiting []*segment // cut, to be sealed, in order
	parts   map[topic.PartitionID]*part
	head    *segment
	seal    *job
	tidy    *job

	damaged uint64 // the newest segment that was ever set aside
	ending  bool   // no step is drawn any more
}

// part is what storage knows of a partition.
type part struct {
	low, next topic.Offset
	gone      bool
}

// job is work in steps; between two of them anything may happen.
type job struct {
	name  string
	steps []func() error
}

// Run plays a schedule of so many steps. The error says what does not hold, and the trace what was done until then.
func Run(seed uint64, steps int) (stats Stats, trace []string, err error) {
	w := &world{r: rand.New(rand.NewPCG(seed, 0)), model: newModel(), nowMs: 1_000_000}
	err = w.start()
	for n := 0; n < steps && err == nil; n++ {
		err = w.step()
	}
	w.ending = true
	for n := 0; err == nil && (w.seal != nil || w.tidy != nil || len(w.waiting) > 0); n++ { // let everything come to its end
		err = errors.Join(w.sealStep(), w.tidyStep())
	}
	if err == nil {
		err = w.check("at the end")
	}
	return w.stats, w.trace, err
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// step does one thing.
func (w *world) step() error {
	switch n := w.r.IntN(100); {
	case n < 50:
		return w.propose()
	case n < 72:
		return w.sealStep()
	case n < 93:
		return w.tidyStep()
	case n < 96:
		return w.check("in between")
	}
	return w.crash()
}

// propose appends an entry and applies it. The power may fail before it is durable, or before it is applied.
func (w *world) propose() error {
	w.nowMs += w.r.Int64N(50)
	_, last := w.disk.bounds()
	e := entry{index: last + 1, term: w.term, data: state.AppendEntryHeader(nil, w.nowMs)}
	var cmds []command
	for range 1 + w.r.IntN(3) {
		c := w.model.draw(w.r)
		if len(cmds) > 0 && (c.publish == nil || cmds[0].publish == nil) {
			break // what the rest is about may change under it
		}
		w.say("entry %d: %s", e.index, c.what)
		cmds, e.data = append(cmds, c), state.AppendCommand(e.data, c.bytes)
	}
	cmds = distinct(cmds)
	e.data = state.AppendEntryHeader(nil, w.nowMs)
	for i := range cmds {
		e.data = state.AppendCommand(e.data, cmds[i].bytes)
	}
	if w.r.IntN(60) == 0 {
		w.say("the power fails before entry %d is durable", e.index)
		return w.crash()
	}
	w.disk.log = append(w.disk.log, e)
	w.stats.Entries++
	if err := w.model.apply(&e, cmds); err != nil {
		return err
	}
	if w.r.IntN(60) == 0 {
		w.say("the power fails before entry %d is applied", e.index)
		return w.crash()
	}
	return w.apply(&e)
}

// distinct keeps the first command of each producer and partition: the next one's sequence would follow from it.
func distinct(cmds []command) []command {
	seen := map[sender]bool{}
	return slices.DeleteFunc(cmds, func(c command) bool {
		if c.publish == nil {
			return false
		}
		key := sender{c.publish.Producer[0], c.publish.Partition}
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

// apply is what the state machine's runner does with a committed entry.
func (w *world) apply(e *entry) error {
	if e.data == nil {
		return nil
	}
	var effects state.Effects
	if err := w.machine.Apply(e.index, e.data, &effects); err != nil {
		return err
	}
	for _, r := range effects.Results {
		if r.Status == state.StatusDuplicate {
			w.stats.Repeats++
		}
	}
	active := w.list[len(w.list)-1]
	for i := range effects.Appends {
		a := &effects.Appends[i]
		p := w.partOrNew(a.Partition)
		if p.gone || a.Base != p.next {
			return fmt.Errorf("entry %d: batch at %d of partition %d, which ends at %d", e.index, a.Base, a.Partition, p.next)
		}
		p.next = a.Base + topic.Offset(a.Count)
		active.add(a)
	}
	for _, c := range effects.Trimmed {
		p := w.partOrNew(c.Partition)
		p.low = max(p.low, c.Low)
	}
	for _, id := range effects.Dropped {
		w.partOrNew(id).gone = true
	}
	if effects.Rotated {
		return w.cut(e)
	}
	return nil
}

func (w *world) partOrNew(id topic.PartitionID) *part {
	if w.parts[id] == nil {
		w.parts[id] = &part{}
	}
	return w.parts[id]
}

// cut ends the active segment behind an entry that says so.
func (w *world) cut(e *entry) error {
	s := w.list[len(w.list)-1]
	s.point, s.term = e.index, e.term
	for chunk := range w.machine.Checkpoint().Chunks() {
		s.chunks = append(s.chunks, slices.Clone(chunk))
	}
	if number := w.machine.View().Segment() - 1; number != s.cuts.First {
		return fmt.Errorf("entry %d cuts segment %d, active is %v", e.index, number, s.cuts)
	}
	w.waiting = append(w.waiting, s)
	w.activate(s.cuts.Last+1, e.index+1)
	return w.model.cut(s)
}

// activate begins a segment.
func (w *world) activate(number, from uint64) {
	s := newSegment(plan.Cuts{First: number, Last: number})
	s.from = from
	w.disk.folders = append(w.disk.folders, s)
	w.list = append(w.list, s)
}

// runStep does a job's next step and says whether the job is over.
func (w *world) runStep(j *job) (done bool, err error) {
	w.say("%s, %d steps left", j.name, len(j.steps))
	step := j.steps[0]
	j.steps = j.steps[1:]
	err = step()
	return len(j.steps) == 0, err
}

// seals are the steps from closed to durable. before does nothing to a disk that counts.
func (w *world) seals(s *segment) []func() error {
	nothing := func() error { return nil } // close, fsync, read back: the folder is still without SEALED
	return []func() error{
		nothing, nothing, nothing,
		func() error { s.mark = written; return nil },
		func() error { s.mark = sealed; w.stats.Seals++; return nil },
	}
}

// sealStep goes on with the oldest segment that waits: sealed ones are a prefix of the log. Only behind a seal the raft
// log is dropped.
func (w *world) sealStep() error {
	if w.seal == nil {
		if len(w.waiting) == 0 {
			return nil
		}
		s := w.waiting[0]
		w.waiting = w.waiting[1:]
		w.seal = &job{fmt.Sprintf("seal %v", s.cuts), append(w.seals(s),
			func() error { w.head = s; return nil },
			func() error { return w.compact(s) })}
	}
	done, err := w.runStep(w.seal)
	if done {
		w.seal = nil
	}
	return err
}

// compact drops the raft log behind a sealed segment.
func (w *world) compact(s *segment) error {
	w.disk.drop(plan.KeepLog(s.from, s.point, logWindow))
	first, _ := w.disk.bounds()
	switch {
	case first > s.point:
		return fmt.Errorf("the entry of the sealed point %d is gone", s.point)
	case first > 1 && s.point-first < logWindow:
		return fmt.Errorf("the log begins at %d, less than %d entries below the sealed point %d", first, logWindow, s.point)
	}
	return nil
}
