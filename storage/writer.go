package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/topic"
)

// Sizes of the background writer's work. Small Badger values cost six times the CPU of
// large ones (reference/storage-segments.md), so it gathers and lays a partition's batches together.
const (
	chunkBytesMin = 4 << 20         // worth a write
	chunkBytesMax = 16 << 20        // most of one write
	valueBytesMax = 256 << 10       // a value ends here, or after one larger batch
	writeAtLatest = 1 * time.Second // so that memory of a quiet node is freed
)

// Run writes what is queued to Badger and seals what was cut, until ctx ends. What is then still queued
// stays in memory only: the raft log has it.
func (l *Log) Run(ctx context.Context) error {
	for {
		s, err := l.life(ctx)
		if s == nil {
			return err
		}
		if err == nil {
			if err = s.do(); err != nil {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
				l.fail(err)
			}
		}
		s.done <- err
		if err != nil {
			return err
		}
	}
}

// life runs the loops until ctx ends, one of them fails, or somebody wants the log for himself.
func (l *Log) life(ctx context.Context) (*swap, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- l.loops(ctx) }()
	select {
	case err := <-done:
		return nil, err
	case s := <-l.swaps:
		stop()
		return s, <-done
	}
}

// loops runs every loop of the log. If one ends, all do.
func (l *Log) loops(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() { defer stop(); errs[0] = l.sealLoop(ctx) })
	wg.Go(func() { defer stop(); errs[2] = l.tidyLoop(ctx) })
	wg.Go(func() { l.next.loop(ctx) })
	wg.Go(func() { l.spaceLoop(ctx) })
	wg.Go(func() { l.scrubLoop(ctx) })
	errs[1] = l.writeLoop(ctx)
	stop()
	wg.Wait()
	return errors.Join(errs[:]...)
}

// writeLoop writes what is queued.
func (l *Log) writeLoop(ctx context.Context) error {
	tick := time.NewTicker(writeAtLatest)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.queue.full:
		case <-tick.C:
		}
		if err := l.writeQueued(ctx); errors.Is(err, errStopped) {
			return nil
		} else if err != nil {
			l.fail(err)
			return fmt.Errorf("write to storage: %w", err)
		}
	}
}

// writeQueued empties the queue.
func (l *Log) writeQueued(ctx context.Context) error {
	for ctx.Err() == nil {
		c := l.queue.take()
		switch {
		case c.cut != nil:
			if err := l.turn(ctx, c.cut); err != nil {
				return err
			}
		case len(c.batches) == 0:
			return nil
		default:
			if err := l.write(ctx, c.batches); err != nil {
				return err
			}
		}
	}
	return nil
}

// write puts batches into the active segment and lets memory go.
func (l *Log) write(ctx context.Context, batches []Batch) error {
	batches = byPartition(batches)
	err := l.until(ctx)(func() error { return l.active.write(batches, &l.metrics) })
	if err != nil {
		return err
	}
	for i := range batches {
		if last := i == len(batches)-1 || batches[i+1].Partition != batches[i].Partition; last {
			l.partOrNew(batches[i].Partition).wrote(batches[i].End())
		}
	}
	l.queue.wrote()
	l.cache.shrink()
	return nil
}

// byPartition lays each partition's batches together, in the order that they have, in which offsets rise. It may return
// the slice itself. Comparing tens of thousands of small batches would cost more than all else that is done with them.
func byPartition(batches []Batch) []Batch {
	if slices.IsSortedFunc(batches, func(a, b Batch) int { return cmp.Compare(a.Partition, b.Partition) }) {
		return batches
	}
	places := map[topic.PartitionID]int{} // first how many, then where the next one goes
	for i := range batches {
		places[batches[i].Partition]++
	}
	at := 0
	for _, id := range slices.Sorted(maps.Keys(places)) {
		places[id], at = at, at+places[id]
	}
	out := make([]Batch, len(batches))
	for i := range batches {
		id := batches[i].Partition
		out[places[id]] = batches[i]
		places[id]++
	}
	return out
}

// turn hands the active segment to the sealer and goes on with the next one.
func (l *Log) turn(ctx context.Context, cut *queuedCut) error {
	var next *builder
	err := l.until(ctx)(func() (err error) { next, err = l.next.take(); return err })
	if err != nil {
		return err
	}
	if err := fault.Before("segment.turn"); err != nil {
		return err
	}
	old := l.active
	next.values, old.values = old.values, nil
	l.activate(next)
	if err := fault.After("segment.turn"); err != nil {
		return err
	}
	select {
	case l.sealing <- sealing{builder: old, cut: cut.Cut, from: cut.from}:
	case <-ctx.Done():
		old.forsake()
	}
	return nil
}

// activate makes b the segment that batches go to.
func (l *Log) activate(b *builder) {
	l.active = b
	l.set.change(func(list []*segment) []*segment { return append(list, b.seg) })
	l.next.prepare(b.seg.last + 1)
}

// untilRoom runs a step that may fail for want of something, disk space most of all, and then has changed nothing. What
// to do about it is the caller's choice.
type untilRoom func(step func() error) error

// atOnce gives up.
func atOnce(step func() error) error { return step() }

// errStopped ends a step that waited when the log was closed. What it was about is in the raft log.
var errStopped = errors.New("the log was closed while it waited for disk space")

// roomAgain is how often a writer looks whether there is space again.
const roomAgain = time.Second

// until repeats a step until it works, or ctx ends. Publishers wait meanwhile; readers, trims and deletions do not.
func (l *Log) until(ctx context.Context) untilRoom {
	return func(step func() error) error {
		err := step()
		if !isShort(err) {
			return err
		}
		l.options.Logger.Error("writing waits until there is disk space", "error", err)
		again := time.NewTicker(roomAgain)
		defer again.Stop()
		for isShort(err) {
			select {
			case <-again.C:
				err = step()
			case <-ctx.Done():
				return errStopped
			}
		}
		if err == nil {
			l.options.Logger.Info("writing goes on")
		}
		return err
	}
}

// sealLoop seals what was cut, one after the other: sealed segments are always a prefix of the log.
func (l *Log) sealLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-l.sealing:
			if err := l.sealOne(ctx, s); errors.Is(err, errStopped) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// sealOne seals a segment and makes it the head. A failure ends the process: the folder has no SEALED, so the
// next start rebuilds the segment from the raft log.
func (l *Log) sealOne(ctx context.Context, s sealing) error {
	if err := l.seal(s, l.until(ctx)); errors.Is(err, errStopped) {
		return err
	} else if err != nil {
		l.fail(err)
		return err
	}
	h := headOf(s.builder.seg)
	l.head.Store(h)
	l.onSeal(*h)
	l.sealed.tell()
	l.tidy.wake()
	return nil
}

// valueOf counts the batches, all of one partition, that make the next value.
func valueOf(sorted []Batch) (n, size int) {
	for n < len(sorted) && sorted[n].Partition == sorted[0].Partition {
		next := size + len(sorted[n].Raw)
		if n > 0 && next > valueBytesMax {
			break
		}
		size = next
		n++
	}
	return n, size
}
