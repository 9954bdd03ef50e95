package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/topic"
)

// StateFunc takes the checkpoint that a snapshot holds. It must read it to the end.
type StateFunc func(chunks iter.Seq2[[]byte, error]) error

// SnapshotContents is what a snapshot holds, once it was read to its end and all of it was right.
type SnapshotContents struct {
	Contents
	runs map[topic.PartitionID]span
}

// span is the records of a partition, without a hole.
type span struct{ base, next topic.Offset }

// VerifySnapshot reads a snapshot to its end and holds each segment to its description: every batch's CRC, dense offsets,
// extents, counts, digest, checkpoint. Errors wrap snapshot.ErrDamaged, snapshot.ErrNewer or ErrNewer; or come from the stream
// or from state.
func VerifySnapshot(ctx context.Context, r *snapshot.Reader, state StateFunc) (*SnapshotContents, error) {
	s := scanner{ctx: ctx, in: r, state: state, out: SnapshotContents{runs: map[topic.PartitionID]span{}}}
	if err := s.run(); err != nil {
		return nil, err
	}
	return &s.out, nil
}

// Covered checks that every record of a partition is there, and none behind its end.
func (c *SnapshotContents) Covered(id topic.PartitionID, low, next topic.Offset) error {
	run, ok := c.runs[id]
	switch {
	case ok && run.next > next:
		return fmt.Errorf("partition %d: %w: its records go to %d, the state ends at %d", id, snapshot.ErrDamaged, run.next-1, next)
	case low < next && (!ok || run.base > low || run.next < next):
		return fmt.Errorf("partition %d: %w: records %d to %d should be there, %d to %d are", id, snapshot.ErrDamaged, low, next-1, run.base, run.next-1)
	}
	return nil
}

// scanner goes through the chunks of a snapshot.
type scanner struct {
	ctx   context.Context
	in    *snapshot.Reader
	state StateFunc
	build *rebuilder // nil = only look
	out   SnapshotContents

	chunk snapshot.Chunk // read and not yet taken
	ended bool           // the end came, and it was right
}

// run reads all segments.
func (s *scanner) run() error {
	if err := s.advance(); err != nil {
		return err
	}
	list := s.in.Head().Segments
	for i := range list {
		if err := s.segment(&list[i], i == len(list)-1); err != nil {
			return fmt.Errorf("segment %d to %d: %w", list[i].First, list[i].Last, err)
		}
	}
	if !s.ended {
		return fmt.Errorf("%w: a chunk of kind %d behind the last segment", snapshot.ErrDamaged, s.chunk.Kind)
	}
	return nil
}

// advance reads the next chunk.
func (s *scanner) advance() error {
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	var err error
	s.chunk, err = s.in.Next()
	if errors.Is(err, io.EOF) {
		s.ended = true
		return nil
	}
	return err
}

// is says whether a chunk of a kind comes.
func (s *scanner) is(k snapshot.Kind) bool { return !s.ended && s.chunk.Kind == k }

// segment reads one segment.
func (s *scanner) segment(listed *snapshot.Segment, last bool) error {
	m, err := s.describe(listed, last)
	if err != nil {
		return err
	}
	check := verifier{want: m, sum: xxhash.New()}
	if err := s.build.begin(m); err != nil {
		return err
	}
	for s.is(snapshot.KindValue) {
		id, base, value, err := s.chunk.Value()
		if err == nil {
			err = inSnapshot(check.value(id, base, value))
		}
		if err == nil {
			err = s.build.value(value)
		}
		if err == nil {
			err = s.advance()
		}
		if err != nil {
			return err
		}
	}
	if last {
		if err := s.checkpoint(&check); err != nil {
			return err
		}
	}
	if err := inSnapshot(check.end()); err != nil {
		return err
	}
	s.out.add(m)
	return s.build.end(m)
}

// describe takes the description of a segment and compares it with the list.
func (s *scanner) describe(listed *snapshot.Segment, last bool) (*Manifest, error) {
	if !s.is(snapshot.KindSegment) {
		return nil, fmt.Errorf("%w: it is missing", snapshot.ErrDamaged)
	}
	m, err := parseManifest(s.chunk.Payload)
	switch {
	case errors.Is(err, ErrNewer):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", snapshot.ErrDamaged, err)
	}
	got := snapshot.Segment{First: m.First, Last: m.Last, From: m.From, Index: m.Cut.Index, Records: m.Contents.Records, Bytes: m.Contents.Bytes}
	if got != *listed || last != (m.Chunks > 0) || last && m.Cut.Term != s.in.Head().Term {
		return nil, fmt.Errorf("%w: its description %+v, with %d chunks of state, is not what the list says", snapshot.ErrDamaged, got, m.Chunks)
	}
	for _, e := range m.Extents {
		if run, ok := s.out.runs[e.Partition]; ok && e.Base < run.next {
			return nil, fmt.Errorf("%w: partition %d goes back from %d to %d", snapshot.ErrDamaged, e.Partition, run.next, e.Base)
		}
	}
	return m, s.advance()
}

// checkpoint passes the state on while it is read.
func (s *scanner) checkpoint(check *verifier) error {
	var broken error
	err := s.state(func(yield func([]byte, error) bool) {
		for s.is(snapshot.KindState) {
			if broken = inSnapshot(check.chunk(check.chunks, s.chunk.Payload)); broken == nil && !yield(s.chunk.Payload, nil) {
				return
			}
			if broken == nil {
				broken = s.advance()
			}
			if broken != nil {
				yield(nil, broken)
				return
			}
		}
	})
	if broken != nil {
		return broken
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// add takes a segment whose every record was seen. What lies below a hole is nothing that can be read.
func (c *SnapshotContents) add(m *Manifest) {
	c.Values += m.Contents.Values
	c.Batches += m.Contents.Batches
	c.Records += m.Contents.Records
	c.Bytes += m.Contents.Bytes
	c.Sum[0] += m.Contents.Sum[0]
	c.Sum[1] += m.Contents.Sum[1]
	for _, e := range m.Extents {
		run, ok := c.runs[e.Partition]
		if !ok || run.next != e.Base {
			run.base = e.Base
		}
		run.next = e.Next
		c.runs[e.Partition] = run
	}
}

// inSnapshot makes damage that a verifier found damage of the snapshot.
func inSnapshot(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", snapshot.ErrDamaged, err)
}

// rebuilder writes the segments of a snapshot into an empty log. A nil one does nothing.
type rebuilder struct {
	log        *Log
	checkpoint func() (iter.Seq[[]byte], []byte) // of the last segment, and the members that go with it
	copier     copier
	head       Head
}

// begin opens a segment.
func (b *rebuilder) begin(m *Manifest) error {
	if b == nil {
		return nil
	}
	to, err := b.log.newBuilder(segmentID{first: m.First, last: m.Last}, ballastBytes, m.Contents.Bytes+openSpareBytes)
	if err != nil {
		return err
	}
	b.copier = copier{log: b.log, to: to}
	return nil
}

// value takes whole batches.
func (b *rebuilder) value(value []byte) error {
	if b == nil {
		return nil
	}
	return b.copier.add(slices.Clone(value))
}

// end compares what was written with the description, and seals it like any other segment: fsynced, and read back from the disk.
func (b *rebuilder) end(m *Manifest) error {
	if b == nil {
		return nil
	}
	if err := b.copier.flush(); err != nil {
		return err
	}
	to := b.copier.to
	got := new(Manifest)
	to.describe(got)
	got.Contents.Values = m.Contents.Values // they may be grouped otherwise
	if got.Contents != m.Contents || !slices.Equal(got.Extents, m.Extents) {
		return fmt.Errorf("%w: it holds %+v, the snapshot %+v", ErrCorrupt, got.Contents, m.Contents)
	}
	c := Cut{Number: m.Last, Point: m.Cut}
	if m.Chunks > 0 {
		c.Checkpoint, c.Point.Meta = b.checkpoint()
	}
	if err := b.log.seal(sealing{builder: to, cut: c, from: m.From}, atOnce); err != nil {
		return err
	}
	b.head = *headOf(to.seg)
	return to.seg.close()
}

// RestoreOptions say how a snapshot becomes the folder of a log.
type RestoreOptions struct {
	Dir        string // the log's folder; made, and must not hold segments
	Logger     *slog.Logger
	State      StateFunc                         // takes the checkpoint that the snapshot holds
	Checkpoint func() (iter.Seq[[]byte], []byte) // called after State: the checkpoint and the meta data that the last segment gets
}

// Restore writes the segments of a snapshot into an empty folder, each sealed like any other: fsynced, and read back from the disk. After
// an error the folder is worth nothing, and whoever called sees to it that no log is opened on it.
func Restore(ctx context.Context, r *snapshot.Reader, o RestoreOptions) (Head, error) {
	dir := filepath.Join(o.Dir, segmentsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Head{}, err
	}
	if err := errors.Join(syncDir(o.Dir), syncDir(filepath.Dir(o.Dir))); err != nil {
		return Head{}, err
	}
	l := &Log{options: Options{Dir: o.Dir, Logger: o.Logger}}
	l.options.setDefaults()
	for _, s := range r.Head().Segments {
		l.options.SegmentBytes = min(max(l.options.SegmentBytes, int64(s.Bytes)), segmentBytesMax)
	}
	l.scrub.init()
	l.metrics = newMetrics(nil, l)
	b := &rebuilder{log: l, checkpoint: o.Checkpoint}
	s := scanner{ctx: ctx, in: r, state: o.State, build: b, out: SnapshotContents{runs: map[topic.PartitionID]span{}}}
	if err := s.run(); err != nil {
		if b.copier.to != nil {
			err = errors.Join(err, b.copier.to.discard())
		}
		return Head{}, err
	}
	return b.head, nil
}

// segmentBytesMax keeps a value log below the 2 GiB that Badger can address.
const segmentBytesMax = 1<<31 - 1 - overshootBytes
