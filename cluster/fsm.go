package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// applied is the answer to one entry.
type applied struct {
	index   uint64
	results []state.Result
}

// fsm runs the state machine on raft's goroutine and passes batches to storage.
type fsm struct {
	limits  state.Limits
	machine *state.Machine
	log     *storage.Log
	filling *filling
	in      *installs // nil = none are taken
	fail    func(error)

	// Owned by raft's FSM goroutine.
	effects  state.Effects
	batches  []storage.Batch
	members  members       // as of the last entry applied
	replayed atomic.Uint64 // bytes of entries applied
	broken   error

	applying sync.Mutex // held while entries are applied and their batches stored

	mu       sync.Mutex
	index    uint64                     // Guarded by mu. Applied, with its batches readable.
	grown    chan struct{}              // Guarded by mu. Closed when index grows; nil = nobody waits.
	watchers map[chan struct{}]struct{} // Guarded by mu.
}

var _ raft.BatchingFSM = (*fsm)(nil)

// ApplyBatch applies committed entries. Once one fails nothing is applied any more: the process
// is about to end, and an entry behind a hole must not be seen.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.applying.Lock()
	defer f.applying.Unlock()
	answers := make([]any, len(logs))
	var change state.Change
	for i, l := range logs {
		if l.Type == raft.LogConfiguration {
			f.members = members{index: l.Index, encoded: bytes.Clone(l.Data)}
			change |= state.ChangedMembers
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if f.broken == nil {
			f.broken = f.applyOne(l, &change)
		}
		if f.broken != nil {
			answers[i] = f.broken
			continue
		}
		answers[i] = applied{l.Index, append([]state.Result(nil), f.effects.Results...)}
	}
	if f.broken == nil && len(logs) > 0 {
		f.advance(logs[len(logs)-1].Index, change)
	}
	return answers
}

// applyOne applies one entry and stores its batches.
func (f *fsm) applyOne(l *raft.Log, change *state.Change) error {
	f.effects.Reset()
	err := fault.Step("fsm.apply", func() error { return f.machine.Apply(l.Index, l.Data, &f.effects) })
	if err == nil {
		err = f.store(l)
	}
	if err != nil {
		err = fmt.Errorf("apply entry %d: %w", l.Index, err)
		f.fail(err)
		return err
	}
	*change |= f.effects.Change
	return nil
}

// store hands the entry's batches over, and cuts the segment behind them if the entry says so.
func (f *fsm) store(l *raft.Log) error {
	f.replayed.Add(uint64(len(l.Data)))
	f.batches = f.batches[:0]
	for _, a := range f.effects.Appends {
		f.batches = append(f.batches, storage.Batch{Partition: a.Partition, Base: a.Base, Count: a.Count, TimeMs: a.TimeMs, Raw: a.Raw})
	}
	if err := f.log.Append(f.batches); err != nil {
		return err
	}
	clear(f.batches)
	for _, c := range f.effects.Trimmed {
		f.log.Trim(c.Partition, c.Low)
	}
	for _, p := range f.effects.Dropped {
		f.log.Drop(p)
	}
	f.filling.add(len(l.Data))
	if f.effects.Rotated {
		return f.cut(l)
	}
	return nil
}

// cut ends the active segment behind the entry, with the state as of it.
func (f *fsm) cut(l *raft.Log) error {
	c := f.machine.Checkpoint()
	f.filling.cut()
	return fault.Step("segment.cut", func() error {
		return f.log.Cut(storage.Cut{
			Number:     c.Segment() - 1,
			Point:      storage.Point{Index: l.Index, Term: l.Term, Meta: f.members.append(nil)},
			Checkpoint: c.Chunks(),
		})
	})
}

// advance makes an index known, and tells who waits for it or watches.
func (f *fsm) advance(index uint64, change state.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = index
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
	if change == 0 {
		return
	}
	for w := range f.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// wait returns when index is applied and its batches are readable.
func (f *fsm) wait(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		if f.index >= index {
			f.mu.Unlock()
			return nil
		}
		if f.grown == nil {
			f.grown = make(chan struct{})
		}
		grown := f.grown
		f.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// applied is the last entry that is applied, with its batches readable.
func (f *fsm) applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.index
}

// watch registers a channel that gets a signal after topics, policy or revocations changed.
func (f *fsm) watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[chan struct{}]struct{}{}
	}
	f.watchers[w] = struct{}{}
	return w, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
	}
}

// Apply is never called: raft uses ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot refuses: the log is dropped behind sealed segments, by us (DESIGN section 7).
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

// Restore takes the state from the newest sealed segment; the reader has nothing to say. raft calls it before it
// applies anything, and for an install.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if f.in != nil {
		if li := f.in.take(); li != nil {
			return f.install(li)
		}
	}
	f.broken = f.restore()
	return f.broken
}

func (f *fsm) restore() error {
	h, ok := f.log.Head()
	if !ok {
		return errors.New("restore: there is no sealed segment")
	}
	if err := f.restoreFrom(h); err != nil {
		return fmt.Errorf("take the state from segment %d: %w; move its folder %s out of the data folder, keep it, and start again: the raft log should still have its entries from %d on, or else the start says what is missing", h.Number, err, h.Dir, h.From)
	}
	return nil
}

func (f *fsm) restoreFrom(h storage.Head) error {
	m, err := f.machineOf(f.log.Checkpoint(), h.Point.Index, h.Number)
	if err != nil {
		return err
	}
	for _, p := range placesOf(m.View()) {
		if err := f.log.Place(p.Partition, p.Low, p.Next); err != nil {
			return err
		}
	}
	if f.members, _, err = parseMembers(h.Point.Meta); err != nil {
		return err
	}
	f.machine, f.index = m, h.Point.Index
	return nil
}

// machineOf makes a state machine of a segment's checkpoint, which must be of its cut.
func (f *fsm) machineOf(chunks iter.Seq2[[]byte, error], index, segment uint64) (*state.Machine, error) {
	m, err := state.Restore(f.limits, chunks)
	if err != nil {
		return nil, err
	}
	if view := m.View(); view.Applied() != index || view.Segment() != segment+1 {
		return nil, fmt.Errorf("%w: its checkpoint is of entry %d and segment %d, it was cut at entry %d", storage.ErrCorrupt, view.Applied(), view.Segment(), index)
	}
	return m, nil
}

// placesOf lists where partitions begin and end.
func placesOf(view *state.View) (list []storage.Place) {
	for p := range view.Partitions() {
		list = append(list, storage.Place{Partition: p.ID, Low: p.Low, Next: p.Next})
	}
	return list
}

// install replaces everything by what a snapshot of the leader's lists: segments, state, members. What this node has
// applied lies behind it. Before the segments are replaced an error changes nothing; after it the process ends.
func (f *fsm) install(li *storage.Listing) error {
	if h, ok := f.log.Head(); ok && h.Point.Index == li.Point.Index {
		f.in.store.arm(li.Point.Index)
		return nil // it is here: the answer was lost on its way
	}
	if f.broken != nil {
		return f.broken
	}
	members, _, err := parseMembers(li.Point.Meta)
	if err != nil {
		return err
	}
	f.applying.Lock()
	defer f.applying.Unlock()
	var m *state.Machine
	err = f.log.Install(li, func(chunks iter.Seq2[[]byte, error]) (places []storage.Place, err error) {
		if m, err = f.machineOf(chunks, li.Point.Index, li.Head()); err != nil {
			return nil, err
		}
		return placesOf(m.View()), nil
	})
	if err != nil {
		if errors.Is(err, storage.ErrFailed) {
			f.broken = err
		}
		f.in.log.Error("install", "error", err)
		return err
	}
	f.in.store.arm(li.Point.Index)
	f.machine.Adopt(m)
	f.members = members
	f.filling.cut()
	f.advance(li.Point.Index, ^state.Change(0))
	f.in.metrics.installs.Inc()
	return nil
}
