package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/topic"
)

// Faults that a reader meets. Errors wrap them.
var (
	ErrCorrupt = errors.New("stored data is damaged or missing")
	ErrTrimmed = errors.New("offset is below the partition's first record")
	ErrRange   = errors.New("offset is beyond the partition's end")
	ErrClosed  = errors.New("the log is closed, or the partition was dropped")
)

// Reasons that Options.Fail is called with. ErrStuck comes with ErrFailed.
var (
	ErrFailed = errors.New("the message store failed")
	ErrStuck  = errors.New("a database did not close in time: the disk fails or hangs")
)

// Batch is one stored batch (package batch) on its way into the log.
type Batch struct {
	Partition topic.PartitionID
	Base      topic.Offset
	Count     uint32
	TimeMs    int64
	Raw       []byte // the log keeps it; nobody may change it any more
}

// End is the offset behind the last record.
func (b *Batch) End() topic.Offset { return b.Base + topic.Offset(b.Count) }

// Defaults of Options.
const (
	TailBytesDefault    = 32 << 20
	QueueBytesDefault   = 64 << 20
	SegmentBytesDefault = 256 << 20
)

// SegmentBytesMin is the smallest size of a segment: below it, files of fixed size outweigh the records.
const SegmentBytesMin = 1 << 20

// Options of a Log. The zero value of a field means its default.
type Options struct {
	Dir                 string        // the log's folder; made if missing
	SegmentBytes        int64         // size at which the owner cuts segments; room is set aside for it
	GuardBytes          uint64        // free space below which publishes are to be refused; 0 = a tenth of the disk, at least three segments and GuardMin
	ScrubBytesPerSecond int64         // how fast sealed segments are read again (32 MiB)
	ScrubInterval       time.Duration // how often each of them is (24 h)

	// Replicated says that other nodes have the same segments: a damaged one is fetched from them (Repairs), and is no reason
	// to refuse a start.
	Replicated bool

	TailBytes  int64 // memory for the newest batches that Badger has already
	QueueBytes int64 // memory for batches that Badger does not have yet; then Append waits
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Fail       func(error) // called when the database or the disk failed; the process must end
}

func (o *Options) setDefaults() {
	fill := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&o.SegmentBytes, SegmentBytesDefault)
	fill(&o.ScrubBytesPerSecond, ScrubBytesPerSecondDefault)
	if o.ScrubInterval == 0 {
		o.ScrubInterval = ScrubIntervalDefault
	}
	fill(&o.TailBytes, TailBytesDefault)
	fill(&o.QueueBytes, QueueBytesDefault)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fail == nil {
		o.Fail = func(error) {}
	}
}

// Log is the message store of one raft group. Its methods may be used by many goroutines;
// Append, Cut, Place, Trim and Drop by one at a time.
type Log struct {
	options Options
	parts   sync.Map // topic.PartitionID -> *part
	gone    part     // stands for every dropped partition
	set     set
	head    atomic.Pointer[Head]
	queue   queue
	cache   cache
	metrics metrics
	failed  sync.Once
	space   sync.Mutex // held while a database is opened or closed: both take disk space that the other may count on

	// Owned by the goroutine that appends.
	number uint64 // of the segment that batches go to
	from   uint64 // raft index of the first entry in it

	// Owned by the writer.
	active *builder

	next    nextBuilder
	sealing chan sealing
	swaps   chan *swap
	onSeal  func(Head)
	sealed  sealSignal
	tidy    tidy
	holds   holds
	left    []*segment // Guarded by tidy.mu. No part of the log any more; deleted when nobody copies them.
	disk    space

	scrub     scrub
	repairs   repairs
	saving    sync.Mutex    // held while the file SCRUB is written
	verifying chan struct{} // cap 1: held by the one who reads a segment because somebody asked
}

// sealQueue is how many segments may wait to be sealed; then the writer waits, and with it, at last, Append.
const sealQueue = 2

// Open reads the sealed segments, deletes every other one, and begins a new segment behind them. Nothing that Badger
// says about data that was never sealed is trusted: the raft log refills it.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	if o.SegmentBytes < SegmentBytesMin {
		return nil, fmt.Errorf("open storage: a segment of %d bytes is too small; at least %d", o.SegmentBytes, SegmentBytesMin)
	}
	l := &Log{options: o, sealing: make(chan sealing, sealQueue), swaps: make(chan *swap), onSeal: func(Head) {}, verifying: make(chan struct{}, 1)}
	l.scrub.init()
	l.repairs.init()
	l.set.most = openMax
	l.metrics = newMetrics(o.Registerer, l)
	l.gone.dropped = true
	l.queue.init(o.QueueBytes)
	l.tidy.init()
	l.disk.guard = o.GuardBytes
	l.cache.max = o.TailBytes
	if o.ScrubBytesPerSecond < ScrubBytesPerSecondMin {
		return nil, fmt.Errorf("open storage: a scrub of %d bytes a second is too slow; at least %d", o.ScrubBytesPerSecond, ScrubBytesPerSecondMin)
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", err), l.Close())
	}
	return l, nil
}

// OnSeal names what is called after each seal, in order, before the next begins: it may delete what the sealed segment
// replaces. Set it before Run.
func (l *Log) OnSeal(f func(Head)) { l.onSeal = f }

// fail reports the first failure of the database. Append fails from now on: whoever waits for
// room would wait for ever.
func (l *Log) fail(err error) {
	l.failed.Do(func() {
		l.options.Fail(fmt.Errorf("%w: %w", ErrFailed, err)) // first: who is refused by the queue would report that
		l.queue.close(fmt.Errorf("%w: the database failed: %w", ErrClosed, err))
	})
}

// Append takes over batches that are committed, makes them readable, and wakes whoever waits
// for them. It waits while too much is queued for Badger. An error means that offsets do not follow
// each other or that the log is closed: the state machine and the log disagree, and the node must stop.
func (l *Log) Append(bs []Batch) error {
	for i := range bs {
		b := &bs[i]
		if err := l.queue.wait(); err != nil {
			return err
		}
		p := l.partOrNew(b.Partition)
		waiters, err := p.append(b)
		if err != nil {
			return err
		}
		l.cache.added(p, b)
		l.disk.taken.Add(int64(len(b.Raw)))
		l.queue.put(b)
		for _, w := range waiters {
			w.Wake()
		}
	}
	return nil
}

// Cut ends the active segment: what was appended before belongs to it, what follows to the next one. Sealing
// goes on in the background. The next segment begins with the entry behind the cut's.
func (l *Log) Cut(c Cut) error {
	if c.Number != l.number {
		return fmt.Errorf("cut segment %d: segment %d is active", c.Number, l.number)
	}
	if c.Point.Index < l.from {
		return fmt.Errorf("cut segment %d at entry %d: it begins at entry %d", c.Number, c.Point.Index, l.from)
	}
	if err := l.queue.wait(); err != nil {
		return err
	}
	l.queue.putCut(&queuedCut{c, l.from})
	l.number, l.from = l.number+1, c.Point.Index+1
	return nil
}

// partOrNew finds a partition, or makes an empty one, which begins at offset 0.
func (l *Log) partOrNew(id topic.PartitionID) *part {
	if p := l.part(id); p != nil {
		return p
	}
	p, _ := l.parts.LoadOrStore(id, &part{id: id})
	return p.(*part)
}

// part finds a partition; nil = it has no records yet.
func (l *Log) part(id topic.PartitionID) *part {
	if p, ok := l.parts.Load(id); ok {
		return p.(*part)
	}
	return nil
}

// End is the offset that the next record of a partition will get.
func (l *Log) End(id topic.PartitionID) topic.Offset {
	p := l.part(id)
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// Drop forgets the records of a partition for good: ids are never used again, and a reader that comes
// late must not wait for ever. Readers get ErrClosed, waiters are told; the space comes back
// with the segment. Like Append it is called by one goroutine at a time.
func (l *Log) Drop(id topic.PartitionID) {
	old, _ := l.parts.Swap(id, &l.gone)
	if old == nil {
		return
	}
	for _, w := range old.(*part).drop() {
		w.Wake()
	}
	l.tidy.wake()
}

// Close ends the log. Run must have returned, and nobody may read any more.
func (l *Log) Close() error {
	l.queue.close(ErrClosed)
	errs := []error{l.next.close()}
	for len(l.sealing) > 0 {
		(<-l.sealing).builder.forsake()
	}
	if l.active != nil {
		l.active.forsake()
	}
	for _, s := range append(l.set.segments(), l.left...) {
		errs = append(errs, s.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}
