package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/time/rate"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// Segments that come from another node lie in a folder of their own until all of an install is there: each with the file
// SOURCE, which is the other node's SEALED, until it was read back, and then with SEALED like any other.
const (
	installDir = "install"
	sourceFile = "SOURCE"

	// SealedFile is the name of the file that says what a segment is. It is fetched first.
	SealedFile = manifestFile
	// ListingFile is the name under which the listing of a log is asked for, of a segment without a name.
	ListingFile = "LISTING"
	// SealedBytesMax bounds that file: about a million partitions.
	SealedBytesMax = 48 << 20

	receiveBytesPerSecond = 256 << 20 // of the disk, at most; fetching must not starve the raft log
	receiveSyncBytes      = 64 << 20  // so much is written without an fsync, at most
	receiveBurst          = 4 << 20
)

// ErrOffered says that what another node sent is not the segment that was wanted, or is damaged. It is worth asking
// another node, or again.
var ErrOffered = errors.New("the other node's segment is not the one that was wanted")

// Lacking are the segments of a listing of which neither the log has the same batches, nor one was received and read back
// already.
func (l *Log) Lacking(li *Listing) (list []Listed, err error) {
	for _, g := range l.match(li) {
		if g.own != nil {
			continue
		}
		m, err := received(filepath.Join(l.options.Dir, installDir), &g.listed[0])
		if err != nil {
			return nil, err
		}
		if m == nil {
			list = append(list, g.listed[0])
		}
	}
	return list, nil
}

// received reads the manifest of a segment that was received whole into a folder; nil = it was not, or it is another.
func received(dir string, e *Listed) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, e.Name(), manifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(text)
	if err != nil || !e.is(m) {
		return nil, nil // it is fetched again
	}
	return m, nil
}

// Forget deletes what was received and is not in the listing; nil = all of it.
func (l *Log) Forget(li *Listing) error {
	wanted := map[string]bool{}
	if li != nil {
		for i := range li.Segments {
			wanted[li.Segments[i].Name()] = true
		}
	}
	return l.forget(func(name string) bool { return !wanted[name] })
}

// forgetBelow deletes received segments that the log does not need any more.
func (l *Log) forgetBelow() error {
	h, _ := l.Head()
	return l.forget(func(name string) bool {
		id, ok := parseSegmentID(name)
		return !ok || id.last <= h.Number
	})
}

// forget deletes received segments by name.
func (l *Log) forget(name func(string) bool) error {
	dir := filepath.Join(l.options.Dir, installDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err == nil && name(e.Name()) {
			err = remove(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// Receiver takes one sealed segment from another node. What it wrote is kept over a restart: the next one for the same
// segment goes on behind it. It is for one goroutine.
type Receiver struct {
	log   *Log
	want  Listed
	dir   string
	m     *Manifest // what the other node says of it; nil = not begun
	limit *rate.Limiter

	file  *os.File // being written
	name  string
	dirty int64 // bytes of it since the last fsync
}

// Receive begins to take a segment that Lacking named. Close it.
func (l *Log) Receive(want Listed) *Receiver { return l.receive(installDir, want) }

func (l *Log) receive(dir string, want Listed) *Receiver {
	return &Receiver{log: l, want: want, dir: filepath.Join(l.options.Dir, dir, want.Name()), limit: rate.NewLimiter(receiveBytesPerSecond, receiveBurst)}
}

// ErrOtherSource says that part of the segment is here from a node that laid it out in another way.
var ErrOtherSource = errors.New("part of the segment is here from another node, which laid it out in another way")

// Begin takes the other node's file SEALED, and looks for room on the disk before anything is written. What another node
// sent of the segment before is kept, unless anew says to forget it. Errors wrap ErrOffered or ErrOtherSource, or are of the
// disk.
func (r *Receiver) Begin(sealed []byte, anew bool) error {
	m, err := parseManifest(sealed)
	switch {
	case err != nil:
		return fmt.Errorf("receive segment %s: %w: %w", r.want.Name(), ErrOffered, err)
	case !r.want.is(m):
		return fmt.Errorf("receive segment %s: %w: it holds %+v", r.want.Name(), ErrOffered, m.Contents)
	}
	if err := checkOffered(m); err != nil {
		return fmt.Errorf("receive segment %s: %w", r.want.Name(), err)
	}
	had, err := os.ReadFile(filepath.Join(r.dir, sourceFile))
	if err == nil && !bytes.Equal(had, sealed) && !anew {
		return fmt.Errorf("receive segment %s: %w", r.want.Name(), ErrOtherSource)
	}
	if err != nil || !bytes.Equal(had, sealed) {
		if err := r.fresh(); err != nil {
			return fmt.Errorf("receive segment %s: %w", r.want.Name(), err)
		}
	}
	missing := m.diskBytes()
	for _, f := range m.Files {
		missing -= r.have(f)
	}
	if err := roomFor(r.log.options.Dir, uint64(missing)+GuardMin(r.log.options.SegmentBytes)); err != nil {
		return fmt.Errorf("receive segment %s: %w", r.want.Name(), err)
	}
	r.m = m
	return fault.Step("install.begin", func() error {
		return errors.Join(writeSynced(filepath.Join(r.dir, sourceFile), sealed), syncDir(r.dir), syncDir(filepath.Dir(r.dir)), syncDir(r.log.options.Dir))
	})
}

// checkOffered holds the names and sizes of files to what a segment can have: the other node chooses them.
func checkOffered(m *Manifest) error {
	seen := map[string]bool{}
	for _, f := range m.Files {
		if !isSealedFile(f.Name) || filepath.Base(f.Name) != f.Name || seen[f.Name] || f.Size < 0 || f.Size > segmentBytesMax+overshootBytes {
			return fmt.Errorf("%w: a file %q of %d bytes", ErrOffered, f.Name, f.Size)
		}
		seen[f.Name] = true
	}
	return nil
}

// fresh makes an empty folder.
func (r *Receiver) fresh() error {
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	return makeDiscard(r.dir)
}

// have is how much of a file is there.
func (r *Receiver) have(f File) int64 {
	info, err := os.Stat(filepath.Join(r.dir, f.Name))
	if err != nil {
		return 0
	}
	return min(info.Size(), f.Size)
}

// Next names the file to fetch now, the offset to go on at, and its size; ok is false once all are there.
func (r *Receiver) Next() (name string, offset, size int64, ok bool) {
	for _, f := range r.m.Files {
		have := r.have(f)
		if _, err := os.Stat(filepath.Join(r.dir, f.Name)); have < f.Size || err != nil {
			return f.Name, have, f.Size, true
		}
	}
	return "", 0, 0, false
}

// Write adds bytes to the file that Next named, at the offset that it named. It waits so that the disk is not starved.
func (r *Receiver) Write(ctx context.Context, name string, offset int64, b []byte) error {
	if err := r.limit.WaitN(ctx, min(len(b), receiveBurst)); err != nil {
		return err
	}
	err := fault.Step("install.write", func() error {
		if err := r.turnTo(name); err != nil {
			return err
		}
		_, err := r.file.WriteAt(b, offset)
		return err
	})
	if err != nil {
		return fmt.Errorf("receive segment %s: %w", r.want.Name(), err)
	}
	r.log.metrics.received.Add(float64(len(b)))
	if r.dirty += int64(len(b)); r.dirty >= receiveSyncBytes {
		r.dirty = 0
		return r.file.Sync()
	}
	return nil
}

// turnTo opens a file to write to, and makes the one before durable.
func (r *Receiver) turnTo(name string) (err error) {
	if r.file != nil && r.name == name {
		return nil
	}
	if err := r.endFile(); err != nil {
		return err
	}
	r.file, err = os.OpenFile(filepath.Join(r.dir, name), os.O_CREATE|os.O_WRONLY, 0o600)
	r.name = name
	return err
}

func (r *Receiver) endFile() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file, r.dirty = nil, 0
	return errors.Join(f.Sync(), f.Close())
}

// Close ends the writing. What is there stays.
func (r *Receiver) Close() error { return r.endFile() }

// Finish makes the segment durable, reads it back from the disk like one that was just sealed, and only then calls it one.
// Damage wraps ErrOffered; then nothing of it is kept.
func (r *Receiver) Finish(ctx context.Context) error {
	err := fault.Step("install.sync", r.sync)
	if err == nil {
		err = r.readBack(ctx)
	}
	if err == nil {
		err = fault.Step("install.seal", r.seal)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrOffered, err)
	}
	return fmt.Errorf("receive segment %s: %w", r.want.Name(), errors.Join(err, os.RemoveAll(r.dir)))
}

func (r *Receiver) sync() error {
	if err := r.endFile(); err != nil {
		return err
	}
	for _, f := range r.m.Files {
		if err := syncAndForget(filepath.Join(r.dir, f.Name)); err != nil {
			return err
		}
	}
	return syncDir(r.dir)
}

// readBack compares all of it with its manifest.
func (r *Receiver) readBack(ctx context.Context) error {
	s := newSealed(r.dir, r.want.id(), r.m)
	hurt := false
	db, err := r.log.opener(s, r.m, func(error) { hurt = true })()
	if err != nil {
		return err
	}
	err = verify(ctx, s, r.m, db, func() { hurt = true }, func(n int) error { return r.limit.WaitN(ctx, min(n, receiveBurst)) })
	if !hurt { // else Badger hangs in Close
		_ = db.Close()
	}
	return err
}

// seal gives the folder its SEALED, by rename: SOURCE has the same bytes and is durable.
func (r *Receiver) seal() error {
	if err := os.Rename(filepath.Join(r.dir, sourceFile), filepath.Join(r.dir, manifestFile)); err != nil {
		return err
	}
	return errors.Join(syncDir(r.dir), syncDir(filepath.Dir(r.dir)))
}

// ErrDamaged says that a segment is known to be damaged, and was reported.
var ErrDamaged = fmt.Errorf("%w: it was found so before", ErrCorrupt)

// ErrNoFile says that a segment has no such file.
var ErrNoFile = errors.New("the segment has no such file")

// ReadFile reads a piece of a file of a sealed segment, for another node: up to len(b) bytes from offset on. It returns the
// size of the file, too. A segment that was written again here, or repaired, is found by the name that it had before. Errors wrap ErrNoSegment, ErrNoFile or ErrCorrupt.
func (l *Log) ReadFile(segment, name string, offset int64, b []byte) (n int, size int64, err error) {
	s := l.set.like(segment)
	if s == nil || s.manifest.Load() == nil {
		return 0, 0, fmt.Errorf("segment %s: %w", segment, ErrNoSegment)
	}
	if f := l.scrub.finding(s); f.fault != "" {
		return 0, 0, fmt.Errorf("segment %s: %w: %s", segment, ErrDamaged, f.fault)
	}
	known := name == manifestFile
	for _, f := range s.manifest.Load().Files {
		known = known || f.Name == name
	}
	if !known || offset < 0 {
		return 0, 0, fmt.Errorf("segment %s, file %q at %d: %w", segment, name, offset, ErrNoFile)
	}
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		if !l.set.has(s) {
			return 0, 0, fmt.Errorf("segment %s: %w", segment, ErrNoSegment)
		}
		return 0, 0, damaging(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, damaging(err)
	}
	n, err = f.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("segment %s, file %s: %w: %w", segment, name, ErrCorrupt, err)
	}
	return n, info.Size(), nil
}

// checkedNow notes that a segment was just read whole.
func (l *Log) checkedNow(s *segment) {
	l.scrub.note(s, func(f *finding) { *f = finding{checked: time.Now()} })
}
