package storage

import (
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/snapshot"
)

// Export is the log as of a sealed cut, as a stream (package snapshot): every segment up to the cut, and the checkpoint
// of the last. Each segment is compared whole with what was sealed while it is read; the stream ends with an error where
// it differs. It takes the memory of one read, and of the largest list of partitions. One goroutine at a time.
type Export struct {
	hold     *Hold
	head     snapshot.Head
	segments []*segment
	w        snapshot.Writer
	buf      []byte // encoded and not yet read
	off      int
	begun    bool
	next     int // index of the segment to come
	open     *exporting
	err      error
}

// exporting is the segment being read.
type exporting struct {
	seg   *segment
	last  bool // its checkpoint is part of the stream
	txn   *badger.Txn
	it    *badger.Iterator
	check verifier
}

// Export copies the segments up to a cut, which must be sealed and held. The head needs cluster, node, program and time
// from its owner. The export owns the hold from then on, also after an error: Close it.
func (h *Hold) Export(number uint64, head snapshot.Head) (*Export, error) {
	e := &Export{hold: h, head: head}
	for _, s := range h.log.set.segments() {
		m := s.manifest.Load()
		if m == nil || s.last > number {
			break
		}
		e.segments = append(e.segments, s)
		e.head.Segments = append(e.head.Segments, snapshot.Segment{First: m.First, Last: m.Last, From: m.From, Index: m.Cut.Index, Records: m.Contents.Records, Bytes: m.Contents.Bytes})
		e.head.Index, e.head.Term = m.Cut.Index, m.Cut.Term
	}
	if n := len(e.segments); n == 0 || e.segments[n-1].last != number {
		h.Release()
		return nil, fmt.Errorf("export up to cut %d: it is not sealed", number)
	}
	h.narrow(number)
	return e, nil
}

// Head is what the stream says of itself.
func (e *Export) Head() *snapshot.Head { return &e.head }

// Read fills p as far as the stream goes. io.EOF is its end.
func (e *Export) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if e.off == len(e.buf) {
			if e.err != nil {
				break
			}
			e.buf, e.off = e.buf[:0], 0
			e.err = fault.Step("export.read", func() error { return e.fill(len(p) - n) })
			continue
		}
		m := copy(p[n:], e.buf[e.off:])
		n, e.off = n+m, e.off+m
	}
	if n > 0 {
		return n, nil
	}
	return 0, e.err
}

// fill encodes at least about want bytes more, or up to where the segment ends.
func (e *Export) fill(want int) error {
	switch {
	case !e.begun:
		e.begun = true
		e.buf = e.w.Begin(e.buf, &e.head)
		return nil
	case e.open != nil:
		return e.values(want)
	case e.next < len(e.segments):
		return e.begin()
	}
	e.buf = e.w.End(e.buf)
	e.hold.Release()
	return io.EOF
}

// begin opens the next segment and describes it. Only the last one's checkpoint is of use.
func (e *Export) begin() error {
	s := e.hold.log.present(e.segments[e.next])
	m := s.manifest.Load()
	db, err := s.enter()
	if err != nil {
		return fmt.Errorf("export segment %s: %w", s.name(), e.hold.log.found(s, err))
	}
	x := &exporting{seg: s, last: e.next == len(e.segments)-1, check: verifier{want: m, sum: xxhash.New()}}
	e.open = x
	e.next++
	if err := warm(s.dir, m, nil); err != nil {
		return fmt.Errorf("export segment %s: %w", s.name(), e.hold.log.found(s, err))
	}
	err = guarded(s.hurt, func() error {
		x.txn = db.NewTransactionAt(timestamp, false)
		x.it = x.txn.NewIterator(badger.IteratorOptions{}) // no prefetch: it would fault beyond recover
		x.it.Rewind()
		return nil
	})
	if err != nil {
		return fmt.Errorf("export segment %s: %w", s.name(), err)
	}
	e.buf = e.w.Chunk(e.buf, snapshot.KindSegment, x.describe(m))
	return nil
}

// describe is the manifest of a segment as it stands in the stream: without files, and the members of the cluster that it
// comes from.
func (x *exporting) describe(m *Manifest) []byte {
	d := *m
	d.Files, d.Cut.Meta = nil, nil
	if !x.last {
		d.Chunks, d.ChunkSum = 0, 0
	}
	return d.append(nil)
}

// values encodes values, and compares the segment with its manifest behind the last.
func (e *Export) values(want int) error {
	x, whole := e.open, false
	err := guarded(x.seg.hurt, func() error {
		for ; len(e.buf) < want && x.it.Valid(); x.it.Next() {
			if err := e.value(x.it.Item()); err != nil {
				return err
			}
		}
		if whole = !x.it.Valid(); whole {
			return x.check.end()
		}
		return nil
	})
	if err != nil {
		e.buf = e.buf[:0] // nothing that was not compared leaves
		return fmt.Errorf("export segment %s: %w", x.seg.name(), e.hold.log.found(x.seg, err))
	}
	if whole {
		e.leave()
	}
	return nil
}

func (e *Export) value(item *badger.Item) error {
	if err := e.open.check.item(item); err != nil {
		return err
	}
	id, base := partitionOf(item.Key()), baseOf(item.Key())
	return item.Value(func(value []byte) error {
		switch {
		case id != checkpointID:
			e.buf = e.w.Value(e.buf, id, base, value)
		case e.open.last:
			e.buf = e.w.Chunk(e.buf, snapshot.KindState, value)
		}
		return nil
	})
}

// leave gives the open segment back.
func (e *Export) leave() {
	x := e.open
	if x == nil {
		return
	}
	e.open = nil
	_ = guarded(x.seg.hurt, func() error {
		if x.it != nil {
			x.it.Close()
		}
		if x.txn != nil {
			x.txn.Discard()
		}
		return nil
	})
	x.seg.leave()
}

// Close ends the export; segments may go again. It may be called more than once.
func (e *Export) Close() {
	e.leave()
	e.hold.Release()
	if e.err == nil {
		e.err = fmt.Errorf("export: %w", ErrClosed)
	}
}
