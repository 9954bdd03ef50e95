package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// mergeSome merges one run of neighbours, if one is worth it, and says whether there may be another.
func (l *Log) mergeSome(ctx context.Context) (bool, error) {
	run := l.mergeable()
	if len(run) == 0 {
		return false, nil
	}
	err := l.merge(ctx, run)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrCorrupt):
		for _, s := range run { // the others must not wait for these
			s.spoiled.Store(true)
		}
	case !isShort(err) && !errors.Is(err, context.Canceled):
		return false, err
	}
	l.options.Logger.Error("segments were not merged", "first", filepath.Base(run[0].dir), "count", len(run), "error", err)
	return errors.Is(err, ErrCorrupt), nil
}

// mergeable finds the first run of neighbours that is worth writing again, and fits into one segment.
func (l *Log) mergeable() []*segment {
	old := l.old()
	usage := make([]plan.Usage, len(old))
	for i, s := range old {
		usage[i].Bytes, usage[i].Live = l.usage(s)
		usage[i].Fixed = s.spoiled.Load() || l.scrub.finding(s).fault != "" // what is damaged stays as it is
	}
	from, to := plan.Merge(usage, l.options.SegmentBytes)
	return old[from:to]
}

// merge writes what is readable in a run of neighbours into one new segment, in key order, seals it like any other,
// and then deletes the old ones. A crash before the new SEALED leaves the old ones, one after it both: the next start
// deletes what the new one covers.
func (l *Log) merge(ctx context.Context, segments []*segment) error {
	first, last := segments[0], segments[len(segments)-1]
	id := segmentID{first: first.first, last: last.last}
	if len(segments) == 1 {
		id.generation = first.generation + 1 // same numbers, another name
	}
	var live uint64
	for _, s := range segments {
		_, n := l.usage(s)
		live += n
	}
	b, err := l.newBuilder(id, ballastBytes, live+openSpareBytes) // what frees no space at once must not take the last of it
	if err != nil {
		return err
	}
	if err := l.copyLive(ctx, b, segments); err != nil {
		return errors.Join(fmt.Errorf("merge into segment %s: %w", id, err), b.abandon())
	}
	if b.contents.Bytes == 0 { // all of it died meanwhile
		return errors.Join(b.abandon(), l.retire(segments, nil))
	}
	err = l.seal(sealing{builder: b, cut: Cut{Point: last.manifest.Load().Cut}, from: first.manifest.Load().From}, atOnce)
	if isFull(err) {
		return errors.Join(err, b.abandon())
	}
	if err != nil {
		return err
	}
	return fault.Step("merge.swap", func() error { return l.retire(segments, b.seg) })
}

// abandon deletes a segment that is not to be.
func (b *builder) abandon() error {
	return errors.Join(b.discard(), b.seg.close(), os.RemoveAll(b.seg.dir))
}

// copyLive writes the readable batches of segments, partition by partition.
func (l *Log) copyLive(ctx context.Context, b *builder, segments []*segment) error {
	c := copier{log: l, to: b}
	for _, s := range segments {
		if bytes, live := l.usage(s); live > bytes/wantedPart {
			s.readWhole(s.manifest.Load())
		}
	}
	for _, id := range partitionsOf(segments) {
		for _, s := range segments {
			e, ok := s.extent(id)
			if !ok || l.live(e) == 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.extent(s, e); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

// partitionsOf lists the partitions of segments, by id.
func partitionsOf(segments []*segment) []topic.PartitionID {
	ids := map[topic.PartitionID]struct{}{}
	for _, s := range segments {
		s.each(func(e Extent) { ids[e.Partition] = struct{}{} })
	}
	return slices.Sorted(maps.Keys(ids))
}

// copier gathers batches into chunks.
type copier struct {
	log   *Log
	to    *builder
	chunk []Batch
	bytes int
}

// extent copies what is readable of a partition in a segment.
func (c *copier) extent(s *segment, e Extent) error {
	low := topic.Offset(0)
	if p := c.log.part(e.Partition); p != nil {
		low, _ = p.bounds()
	}
	db, err := s.enter()
	if err != nil {
		return c.log.found(s, err)
	}
	defer s.leave()
	for at := max(low, e.Base); at < e.Next; {
		r := coldRead{part: e.Partition, from: at, next: at, end: e.Next, maxBytes: valueBytesMax}
		err := guarded(s.hurt, func() error {
			txn := db.NewTransactionAt(timestamp, false)
			defer txn.Discard()
			return r.run(txn)
		})
		if err != nil {
			return fmt.Errorf("partition %d at %d, in segment %s: %w", e.Partition, at, s.name(), c.log.found(s, err))
		}
		if err := c.add(r.out); err != nil {
			return err
		}
		at = r.next
	}
	return nil
}

// add takes stored batches of one partition.
func (c *copier) add(raw []byte) error {
	var b batch.Batch
	for len(raw) > 0 {
		rest, err := batch.Parse(raw, &b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		c.chunk = append(c.chunk, Batch{Partition: b.Partition, Base: b.Base, Count: b.Count, TimeMs: b.TimeMs, Raw: b.Raw})
		c.bytes += len(b.Raw)
		raw = rest
	}
	if c.bytes < chunkBytesMin {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	if len(c.chunk) == 0 {
		return nil
	}
	err := c.to.write(c.chunk, &c.log.metrics)
	clear(c.chunk)
	c.chunk, c.bytes = c.chunk[:0], 0
	return err
}
