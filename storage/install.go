package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// An install gives the log other segments, all at once. The file INSTALL, a listing, is where it turns: with it, the log
// has the listed segments and no other, and a start finishes what a crash cut short. Its name becomes INSTALLED when every
// folder is in its place; that one says how the head came here until there is a newer one.
const (
	installFile   = "INSTALL"
	installedFile = "INSTALLED"

	// installPatience is how long an install waits for the loops of the log to end what they are at.
	installPatience = time.Minute
)

// ErrLacking says that a segment is not here, or not any more.
var ErrLacking = errors.New("a segment is not here yet")

// Place is where a partition's records begin and where the next one goes.
type Place struct {
	Partition topic.PartitionID
	Low, Next topic.Offset
}

// Install replaces everything that the log has by the segments of a listing, which must be here (Lacking): those that it
// has already stay, those that were received move in, all others, the active one and what waits in memory go. state gets
// the checkpoint, and says where partitions begin and end; until it has returned nothing is touched. Call it in the
// goroutine that appends, while Run runs. The listing must be ahead of everything that was appended.
//
// After an error that wraps ErrFailed the process must end; after any other one the log is as it was.
func (l *Log) Install(li *Listing, state func(chunks iter.Seq2[[]byte, error]) ([]Place, error)) error {
	l.repairs.swapping.Lock() // no repair takes away what the listing is going to name
	defer l.repairs.swapping.Unlock()
	in := &installing{log: l, listing: *li, hold: l.Hold()} // nor does a merge
	defer in.hold.Release()
	err := in.prepare(state)
	if err == nil {
		err = l.alone(in.run)
	}
	if err != nil {
		return fmt.Errorf("install segments up to entry %d: %w", li.Point.Index, err)
	}
	return nil
}

// installing is one install.
type installing struct {
	log     *Log
	listing Listing
	list    []*segment // of the listing, in order
	fetched []*segment // those among them that move in
	places  []Place
	hold    *Hold
}

// prepare finds every segment, takes the checkpoint, and looks for holes. It changes nothing.
func (in *installing) prepare(state func(chunks iter.Seq2[[]byte, error]) ([]Place, error)) error {
	l := in.log
	wanted := in.listing
	in.listing.Segments = nil
	for _, g := range l.match(&wanted) {
		if g.own != nil {
			in.keep(g.own)
			continue
		}
		m, err := received(filepath.Join(l.options.Dir, installDir), &g.listed[0])
		if err != nil {
			return err
		}
		if m == nil {
			return fmt.Errorf("segment %s: %w", g.listed[0].Name(), ErrLacking)
		}
		in.moveIn(g.listed[0], m)
	}
	if err := in.checkpoint(state); err != nil {
		return err
	}
	return in.covered()
}

// keep has segments of the log stay.
func (in *installing) keep(own []*segment) {
	for _, s := range own {
		in.listing.Segments = append(in.listing.Segments, listed(s, s.manifest.Load()))
	}
	in.list = append(in.list, own...)
}

// moveIn has a received segment become one of the log's.
func (in *installing) moveIn(e Listed, m *Manifest) {
	l := in.log
	s := newSealed(filepath.Join(l.options.Dir, segmentsDir, e.Name()), e.id(), m)
	s.shut = true // readers wait until its folder is there
	s.open = l.opener(s, m, func(error) { s.hurt() })
	e.Fetched = true
	in.listing.Segments = append(in.listing.Segments, e)
	in.list, in.fetched = append(in.list, s), append(in.fetched, s)
}

// checkpoint reads the state out of the last segment.
func (in *installing) checkpoint(state func(chunks iter.Seq2[[]byte, error]) ([]Place, error)) (err error) {
	last := in.list[len(in.list)-1]
	m, dir := last.manifest.Load(), last.dir
	if last.shut {
		dir = filepath.Join(in.log.options.Dir, installDir, last.name())
	}
	s := newSealed(dir, last.segmentID, m)
	hurt := false
	db, err := in.log.opener(s, m, func(error) { hurt = true })()
	if err != nil {
		return err
	}
	in.places, err = state(func(yield func([]byte, error) bool) { readChunks(db, s, yield) })
	if !hurt && !s.isHurt() { // else Badger hangs in Close
		_ = db.Close()
	}
	return err
}

// covered looks whether the segments have every record that the checkpoint names.
func (in *installing) covered() error {
	for _, p := range in.places {
		var spans []plan.Span
		for _, s := range in.list {
			if e, ok := s.extent(p.Partition); ok {
				spans = append(spans, plan.Span{Base: int64(e.Base), Next: int64(e.Next)})
			}
		}
		if hole, _, missing := plan.Hole(int64(p.Low), int64(p.Next), spans, plan.Span{}); missing {
			return fmt.Errorf("partition %d: %w: records %d to %d are in no segment", p.Partition, ErrCorrupt, hole.Base, hole.Next-1)
		}
	}
	return nil
}

// run makes the listing the log. The loops of Run stand still.
func (in *installing) run() error {
	l := in.log
	in.hold.Release()
	l.tidy.mu.Lock()
	defer l.tidy.mu.Unlock()
	if err := fault.Step("install.commit", func() error { return in.commit() }); err != nil {
		return err
	}
	l.queue.empty()
	errs, left := []error{l.next.close()}, map[string]bool{}
	for len(l.sealing) > 0 {
		(<-l.sealing).builder.forsake()
	}
	l.active.forsake()
	old := l.set.segments()
	l.set.change(func([]*segment) []*segment { return append([]*segment(nil), in.list...) })
	for _, s := range l.left {
		if left[s.name()] = !in.takes(s.name()); !left[s.name()] {
			errs = append(errs, s.close())
		}
	}
	for _, s := range old {
		switch {
		case contains(in.list, s):
		case s.manifest.Load() != nil && s.first <= l.holds.held() && !in.takes(s.name()):
			left[s.name()] = true // somebody copies it
			l.left = append(l.left, s)
		default:
			errs = append(errs, s.close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := finishInstall(l.options.Dir, &in.listing, left); err != nil {
		return err
	}
	for _, s := range in.fetched {
		l.checkedNow(s)
		s.letIn(nil)
	}
	return in.goOn()
}

// takes says whether a segment of that name moves in.
func (in *installing) takes(name string) bool {
	for _, s := range in.fetched {
		if s.name() == name {
			return true
		}
	}
	return false
}

// commit writes INSTALL, whole or not at all.
func (in *installing) commit() error {
	dir := in.log.options.Dir
	for _, s := range in.fetched { // once more: what INSTALL says must be there after a power cut
		if err := errors.Join(syncDir(filepath.Join(dir, installDir, s.name())), syncDir(filepath.Join(dir, installDir))); err != nil {
			return err
		}
	}
	name := filepath.Join(dir, installFile)
	if err := writeSynced(name+temporarySuffix, in.listing.Append(nil)); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+temporarySuffix, name), syncDir(dir))
}

// goOn begins a new active segment behind the installed ones, and tells readers where partitions are now.
func (in *installing) goOn() error {
	l := in.log
	h := headOf(in.list[len(in.list)-1])
	h.Installed = true
	l.head.Store(h)
	if err := l.beginActive(); err != nil {
		return err
	}
	l.cache.empty()
	placed := map[topic.PartitionID]bool{}
	for _, p := range in.places {
		placed[p.Partition] = true
		for _, w := range l.partOrNew(p.Partition).place(p) {
			w.Wake()
		}
	}
	l.parts.Range(func(id, p any) bool {
		if !placed[id.(topic.PartitionID)] && p != any(&l.gone) {
			l.Drop(id.(topic.PartitionID))
		}
		return true
	})
	l.saveScrub()
	l.repairs.found(nil) // covered has looked
	l.sealed.tell()
	l.tidy.wake()
	l.options.Logger.Info("segments installed", "index", h.Point.Index, "segments", len(in.list), "received", len(in.fetched))
	return l.look()
}

// place makes the partition begin and end elsewhere, with nothing in memory, and returns whom to wake.
func (p *part) place(at Place) []*Waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.low, p.end, p.stored, p.tail = at.Low, at.Next, at.Next, nil
	return p.takeWaitersLocked()
}

// finishInstall puts folders where INSTALL says. It may be repeated, and nobody has any of them open that goes, but for those
// named in left: they lose SEALED only.
func finishInstall(root string, li *Listing, left map[string]bool) error {
	if err := fault.Step("install.clear", func() error { return clearOld(root, li, left) }); err != nil {
		return err
	}
	if err := fault.Step("install.move", func() error { return moveIn(root, li) }); err != nil {
		return err
	}
	return fault.Step("install.done", func() error {
		return errors.Join(os.Rename(filepath.Join(root, installFile), filepath.Join(root, installedFile)), syncDir(root), os.RemoveAll(filepath.Join(root, installDir)))
	})
}

// clearOld deletes every segment that is not listed, and what is in the place of one that has not moved in.
func clearOld(root string, li *Listing, left map[string]bool) error {
	keep := map[string]bool{}
	for i := range li.Segments {
		e := &li.Segments[i]
		_, err := os.Lstat(filepath.Join(root, installDir, e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		keep[e.Name()] = !e.Fetched || err != nil
	}
	dir := filepath.Join(root, segmentsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if keep[e.Name()] {
			continue
		}
		drop := remove
		if left[e.Name()] {
			drop = unseal
		}
		if err := drop(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// moveIn moves what was received to the other segments.
func moveIn(root string, li *Listing) error {
	for i := range li.Segments {
		e := &li.Segments[i]
		if !e.Fetched {
			continue
		}
		err := os.Rename(filepath.Join(root, installDir, e.Name()), filepath.Join(root, segmentsDir, e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	dir := filepath.Join(root, segmentsDir)
	for i := range li.Segments {
		if _, err := os.Lstat(filepath.Join(dir, li.Segments[i].Name(), manifestFile)); err != nil {
			return fmt.Errorf("%w: segment %s should be installed: %w", ErrCorrupt, li.Segments[i].Name(), err)
		}
	}
	if err := syncDir(filepath.Join(root, installDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

// loadInstall finishes an install that was cut short, and reads how the last one ended; nil = there was none.
func (l *Log) loadInstall() (*Listing, error) {
	li, err := readListing(filepath.Join(l.options.Dir, installFile))
	if err == nil {
		l.options.Logger.Info("an install of segments that was cut short is finished", "index", li.Point.Index, "segments", len(li.Segments))
		err = finishInstall(l.options.Dir, li, nil)
	}
	if errors.Is(err, os.ErrNotExist) {
		li, err = readListing(filepath.Join(l.options.Dir, installedFile))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return li, err
}

func readListing(name string) (*Listing, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	li, err := ParseListing(text)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", name, err)
	}
	return li, nil
}

// swap is something to be done while no loop of Run is at work.
type swap struct {
	do   func() error
	done chan error // cap 1
}

// alone runs do between two lives of the loops of Run. If do fails the log has failed.
func (l *Log) alone(do func() error) error {
	s := &swap{do, make(chan error, 1)}
	patience, cancel := context.WithTimeout(context.Background(), installPatience)
	defer cancel()
	select {
	case l.swaps <- s:
		return <-s.done
	case <-patience.Done():
		return errors.New("the log is not running")
	}
}
