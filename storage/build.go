package storage

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/topic"
)

// builder writes one segment: the active one, the one to come, or the result of a merge. It belongs to one
// goroutine at a time.
type builder struct {
	seg      *segment
	db       *badger.DB
	contents Contents
	room     room
	trouble  *trouble
	values   []byte // memory of the values that are being written, kept for the next ones
}

// trouble keeps the first thing that Badger called an error: its background failures show nowhere else.
type trouble struct {
	mu    sync.Mutex
	first error // Guarded by mu.
}

func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
}

func (t *trouble) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// newBuilder makes the folder of a segment and opens an empty database in it, with so much ballast, if there is room for
// that and for spare bytes more.
func (l *Log) newBuilder(id segmentID, ballast int64, spare uint64) (*builder, error) {
	dir := filepath.Join(l.options.Dir, segmentsDir, id.String())
	b := &builder{seg: newSegment(dir, id), room: room{ballast: ballast}, trouble: &trouble{}}
	l.space.Lock() // a database that is being closed must not lose its ballast to us
	defer l.space.Unlock()
	err := roomFor(l.options.Dir, openBytes(l.options.SegmentBytes, ballast)+spare)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = fault.Step("segment.open", func() error { return b.create(l) })
		if err != nil {
			err = errors.Join(err, b.discard(), os.RemoveAll(dir))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("new segment %s: %w", id, err)
	}
	b.seg.extents = map[topic.PartitionID]*Extent{}
	b.seg.db = b.db
	return b, nil
}

func (b *builder) create(l *Log) error {
	log := badgerLog{l.options.Logger.With("segment", filepath.Base(b.seg.dir)), b.trouble.note}
	o := segmentOptions(b.seg.dir, l.options.SegmentBytes, log)
	if err := makeDiscard(b.seg.dir); err != nil {
		return err
	}
	db, err := badger.OpenManaged(o)
	if err != nil {
		return err // with it comes a database sometimes, which panics when it is closed
	}
	b.db = db
	return b.room.open(b.seg.dir, roomStep(l.options.SegmentBytes), &o)
}

// makeDiscard makes the file in which Badger counts what may be collected: where Badger itself cannot make it, it ends the
// process instead of returning an error (InitDiscardStats).
func makeDiscard(dir string) error {
	const size = 1 << 20 // what Badger gives it
	f, err := os.OpenFile(filepath.Join(dir, "DISCARD"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// forsake prepares a segment that will not be sealed for being closed. One for whose last tables there is no room is
// left open, in a process that ends.
func (b *builder) forsake() {
	b.room.close()
	if b.room.mayClose() != nil {
		b.seg.hurt()
	}
	_ = b.room.dropBallast() // it goes with the folder at the latest
}

// discard gives up what create made; the folder is deleted at the next start. Nobody reads it.
func (b *builder) discard() error {
	b.forsake()
	if b.db == nil || b.seg.isHurt() {
		return nil
	}
	if err := closeInTime(b.db); errors.Is(err, ErrStuck) {
		return err
	}
	return nil // what it wrote is not wanted
}

// write adds batches, sorted by partition and base, each partition's behind those it has.
func (b *builder) write(sorted []Batch, m *metrics) error {
	size := 0
	for i := range sorted {
		size += len(sorted[i].Raw)
	}
	if err := b.room.need(size, len(sorted)); err != nil {
		return err
	}
	if err := fault.Step("storage.write", func() error { return b.writeValues(sorted, size, m) }); err != nil {
		return err
	}
	if err := b.trouble.err(); err != nil {
		return err
	}
	startWriting(b.room.vlog)
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	for i := range sorted {
		e := b.seg.extents[sorted[i].Partition]
		if e == nil {
			e = &Extent{}
			b.seg.extents[sorted[i].Partition] = e
		}
		e.grow(&sorted[i])
		b.contents.add(sorted[i].Raw, sorted[i].Count)
	}
	return nil
}

// writeValues groups the batches, of so many bytes, into values.
func (b *builder) writeValues(sorted []Batch, bytes int, m *metrics) error {
	wb := b.db.NewWriteBatchAt(timestamp)
	defer wb.Cancel()
	values := b.memory(bytes)
	for len(sorted) > 0 {
		n, size := valueOf(sorted)
		from := len(values)
		for i := range n {
			values = append(values, sorted[i].Raw...)
		}
		if err := wb.Set(key(sorted[0].Partition, sorted[0].Base), values[from:len(values):len(values)]); err != nil {
			return err
		}
		b.contents.Values++
		m.written(size)
		sorted = sorted[n:]
	}
	return wb.Flush()
}

// memory is an empty slice with room for so many bytes. What was in it before was flushed: Badger has copied it. A
// writer with much to do gets the same again and again; one with little gives it back.
func (b *builder) memory(bytes int) []byte {
	switch {
	case bytes < chunkBytesMin:
		b.values = nil
		return make([]byte, 0, bytes)
	case bytes > cap(b.values):
		b.values = make([]byte, 0, bytes)
	}
	return b.values[:0]
}

// writeCheckpoint puts the owner's state at the cut into the segment. It asks for room by until.
func (b *builder) writeCheckpoint(chunks iter.Seq[[]byte], until untilRoom) (n, sum uint64, err error) {
	if chunks == nil {
		return 0, 0, nil
	}
	wb := b.db.NewWriteBatchAt(timestamp)
	defer func() { wb.Cancel() }()
	hash := xxhash.New()
	pending := 0
	for chunk := range chunks {
		if err := until(func() error { return b.room.need(len(chunk), 1) }); err != nil {
			return n, 0, err
		}
		if err := wb.Set(key(checkpointID, topic.Offset(n)), append([]byte(nil), chunk...)); err != nil {
			return n, 0, err
		}
		_, _ = hash.Write(chunk)
		n++
		if pending += len(chunk); pending >= chunkBytesMax { // so much memory, no more
			if err := wb.Flush(); err != nil {
				return n, 0, err
			}
			wb, pending = b.db.NewWriteBatchAt(timestamp), 0
		}
	}
	return n, hash.Sum64(), wb.Flush()
}

// checkpointID stands in keys where a partition's id would: the values are a checkpoint's chunks by number.
const checkpointID = topic.PartitionID(1<<64 - 1)

// room is the disk space that was set aside for a segment's files.
type room struct {
	dir     string
	vlog    *os.File // open since it was made, so that our fsync sees every write error
	step    int64    // so much of the value log is set aside at a time
	granted int64    // bytes of the value log that were promised to us
	used    int64
	limit   int64 // size at which Badger starts another value log
	table   int64 // size of a memtable
	tables  int64 // bytes in memtables, at most
	ballast int64 // bytes that are freed before Close; 0 = they are gone
}

const (
	entryOverhead    = 128     // of an entry in the value log, key and headers, and its place in the memtable
	ballastBytes     = 8 << 20 // removed before Close, which writes tables
	ballastMin       = 1 << 20 // of the first segment of a start on a full disk
	ballastFile      = "BALLAST"
	firstValueLog    = "000001.vlog"
	firstMemtable    = "00001.mem"
	memtableFile     = 2         // memtables that the file of one takes
	openSpareBytes   = 28 << 20  // beside what is set aside; measured: below it an opening can meet SIGBUS while other files grow
	lonelySpareBytes = 256 << 10 // the same for the first one of a start, when nothing else grows
)

// roomStep is how much of a value log is set aside at a time.
func roomStep(segmentBytes int64) int64 { return min(max(segmentBytes/8, 4<<20), 32<<20) }

// openBytes is what a segment sets aside when it is opened.
func openBytes(segmentBytes, ballast int64) uint64 {
	return uint64(roomStep(segmentBytes) + memtableFile*memtableBytes + ballast)
}

// firstBallast is that of the first segment of a start: on a full disk, what the deleted one before gives back must be
// enough for it.
func firstBallast(free uint64, segmentBytes int64) int64 {
	return min(max(int64(free)-int64(openBytes(segmentBytes, 0)+lonelySpareBytes), ballastMin), ballastBytes)
}

// open sets aside what an empty segment needs.
func (r *room) open(dir string, step int64, o *badger.Options) (err error) {
	r.dir, r.step, r.limit, r.table = dir, step, o.ValueLogFileSize, o.MemTableSize
	if r.vlog, err = os.OpenFile(filepath.Join(dir, firstValueLog), os.O_RDWR, 0); err != nil {
		return err
	}
	if err := r.grant(); err != nil {
		return err
	}
	mem, err := os.OpenFile(filepath.Join(dir, firstMemtable), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	if err := SetAside(mem, 0, memtableFile*r.table); err != nil {
		return err
	}
	ballast, err := os.OpenFile(filepath.Join(dir, ballastFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer ballast.Close()
	return SetAside(ballast, 0, r.ballast)
}

// grant sets the next step of the value log aside.
func (r *room) grant() error {
	if err := SetAside(r.vlog, r.granted, r.step); err != nil {
		return fmt.Errorf("set disk space aside: %w", err)
	}
	r.granted += r.step
	return nil
}

// need makes sure that so many bytes in so many entries can be written. A second value log, far beyond the size of a
// segment, and a second memtable have nothing set aside; then there must simply be plenty. An error changes nothing.
func (r *room) need(size, entries int) error {
	used, tables := r.used+int64(size+entries*entryOverhead), r.tables+tableBytes(size, entries)
	for r.granted < min(used, r.limit) {
		if err := r.grant(); err != nil {
			return err
		}
	}
	plenty := uint64(0)
	if used > r.limit {
		plenty += uint64(2*size) + openSpareBytes
	}
	if tables > r.table/2 {
		plenty += r.tablesRoom()
	}
	if plenty > 0 {
		if err := roomFor(r.dir, plenty); err != nil {
			return err
		}
	}
	r.used, r.tables = used, tables
	return nil
}

// tableBytes is what entries take in a memtable, at most: small values stand there themselves.
func tableBytes(size, entries int) int64 {
	inside := 0
	if size < entries*valueThreshold {
		inside = size
	}
	return int64(inside + entries*entryOverhead)
}

// tablesRoom is what Badger needs when a memtable is full: the next one, and the tables of those before.
func (r *room) tablesRoom() uint64 { return uint64((memtableFile+2)*r.table) + openSpareBytes }

// mayClose says whether there is room for the tables that Close writes: few fit into the ballast.
func (r *room) mayClose() error {
	if r.tables <= r.ballast/2 {
		return nil
	}
	return roomFor(r.dir, r.tablesRoom())
}

// dropBallast frees the ballast, for the tables that Close writes.
func (r *room) dropBallast() error {
	if r.ballast == 0 {
		return nil
	}
	r.ballast = 0
	return os.Remove(filepath.Join(r.dir, ballastFile))
}

func (r *room) close() {
	if r.vlog != nil {
		_ = r.vlog.Close()
		r.vlog = nil
	}
}

// isFull says whether an error means that the disk, or what we may use of it, is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isShort says whether an error means that something has run out that may come back: space, descriptors, memory.
func isShort(err error) bool {
	return isFull(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}
