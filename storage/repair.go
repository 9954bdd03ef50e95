package storage

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage/plan"
)

// repairDir has segments that come from another node to take the place of damaged or missing ones. What was fetched stays
// over a restart.
const repairDir = "repair"

// Errors of a repair, which leaves everything as it was.
var (
	// ErrDiffers says that two nodes hold other batches under the same cuts of one raft log: one of them is wrong, and
	// nobody can tell by that which.
	ErrDiffers = errors.New("the other node's segments do not belong to the same log")
	// ErrUnfit says that the other node's segments lack something that is needed here.
	ErrUnfit = errors.New("the other node's segments do not have everything that is to be repaired")
	// ErrLater says that the segments are being copied, or changed meanwhile: it is worth trying again.
	ErrLater = errors.New("the segments cannot be exchanged now")
)

// Repair takes segments of another node in the place of damaged or missing ones: those that cover the same cuts. They are the
// right ones if they were cut at the same entries and terms of the raft log, which then holds the same before, if every batch
// of them is whole (Receiver), if they have every record that is readable here, and if they have the digest that was sealed
// here, as far as nobody merged.
type Repair struct {
	log  *Log
	own  []*segment // that go; none: all of it is missing
	want []Listed   // that come, by the other node's names
}

// RepairSignal gets a signal when damage is found.
func (l *Log) RepairSignal() <-chan struct{} { return l.repairs.signal }

// NeedsRepair says whether a sealed segment is known to be damaged, or readable records were found missing.
func (l *Log) NeedsRepair() bool {
	for _, s := range l.set.segments() {
		if s.manifest.Load() != nil && l.scrub.finding(s).fault != "" {
			return true
		}
	}
	return len(l.repairs.known()) > 0
}

// Repairs are what another node, whose listing it is, may be able to repair.
func (l *Log) Repairs(li *Listing) (list []*Repair) {
	h, ok := l.Head()
	if !ok {
		return nil
	}
	holes := len(l.repairs.known()) > 0
	own := l.sealedSegments()
	for _, p := range plan.Pairs(cutsOf(own), cutsListed(li.Segments)) {
		r := &Repair{log: l, own: own[p.From:p.To], want: li.Segments[p.OtherFrom:p.OtherTo]}
		n := len(r.want)
		if n > 0 && r.want[n-1].Last <= h.Number && (r.damaged() || holes && r.fillsGap()) {
			list = append(list, r)
		}
	}
	return list
}

// sealedSegments are those of the log, oldest first.
func (l *Log) sealedSegments() []*segment {
	list := l.set.segments()
	return list[:sort.Search(len(list), func(i int) bool { return list[i].manifest.Load() == nil })]
}

func cutsOf(list []*segment) (cuts []plan.Cuts) {
	for _, s := range list {
		cuts = append(cuts, plan.Cuts{First: s.first, Last: s.last, Generation: s.generation})
	}
	return cuts
}

func cutsListed(list []Listed) (cuts []plan.Cuts) {
	for i := range list {
		cuts = append(cuts, plan.Cuts{First: list[i].First, Last: list[i].Last})
	}
	return cuts
}

// damaged says whether one of the segments that go is.
func (r *Repair) damaged() bool {
	return slices.ContainsFunc(r.own, func(s *segment) bool { return r.log.scrub.finding(s).fault != "" })
}

// fillsGap says whether a cut is covered that no segment covers here.
func (r *Repair) fillsGap() bool {
	for i := range r.want {
		at := r.want[i].First
		for _, s := range r.own {
			if s.first <= at && at <= s.last {
				at = s.last + 1
			}
		}
		if at <= r.want[i].Last {
			return true
		}
	}
	return false
}

// Own names what is to be repaired, and Want what is to be fetched for it. Own is empty for missing segments.
func (r *Repair) Own() (names []string) {
	for _, s := range r.own {
		names = append(names, s.name())
	}
	return names
}

// Want are the segments to fetch, by the other node's names.
func (r *Repair) Want() []Listed { return r.want }

// Mending says in the status of the segments that they are being repaired, or not any more.
func (r *Repair) Mending(now bool) {
	for _, s := range r.own {
		if r.log.set.has(s) {
			r.log.scrub.note(s, func(f *finding) { f.mending = now && f.fault != "" })
		}
	}
}

// Fits holds the other node's files SEALED, in the order of Want, to what is known here, before anything else is fetched.
// The error wraps ErrOffered, ErrDiffers or ErrUnfit.
func (r *Repair) Fits(sealed [][]byte) error {
	var list []*Manifest
	for i, text := range sealed {
		m, err := parseManifest(text)
		if err != nil {
			return fmt.Errorf("segment %s: %w: %w", r.want[i].Name(), ErrOffered, err)
		}
		if !r.want[i].is(m) {
			return fmt.Errorf("segment %s: %w: it holds %+v", r.want[i].Name(), ErrOffered, m.Contents)
		}
		list = append(list, m)
	}
	return r.fits(list)
}

// Has says whether a segment was received whole already.
func (r *Repair) Has(want Listed) bool {
	m, err := received(filepath.Join(r.log.options.Dir, repairDir), &want)
	return m != nil && err == nil
}

// Receive begins to take one of Want. Close it.
func (r *Repair) Receive(want Listed) *Receiver { return r.log.receive(repairDir, want) }

// fits says whether segments may take the place of the own ones.
func (r *Repair) fits(list []*Manifest) error {
	for _, check := range []func([]*Manifest) error{r.sameLog, r.sameDigest, r.sameCheckpoint, r.hasAll} {
		if err := check(list); err != nil {
			return err
		}
	}
	return nil
}

// sameLog compares the entries at which segments begin and end, with those that go and with their neighbours.
func (r *Repair) sameLog(list []*Manifest) error {
	for _, s := range r.log.sealedSegments() {
		own := s.manifest.Load()
		for _, m := range list {
			switch {
			case m.Last == s.last && (m.Cut.Index != own.Cut.Index || m.Cut.Term != own.Cut.Term),
				m.First == s.first && m.From != own.From,
				m.First == s.last+1 && m.From != own.Cut.Index+1,
				m.Last+1 == s.first && m.Cut.Index+1 != own.From,
				m.Last < s.first && m.Cut.Index >= own.From,
				s.last < m.First && own.Cut.Index >= m.From:
				return fmt.Errorf("segment %d-%d, entries %d to %d of term %d, beside %s here, entries %d to %d of term %d: %w", m.First, m.Last, m.From, m.Cut.Index, m.Cut.Term, s.name(), own.From, own.Cut.Index, own.Cut.Term, ErrDiffers)
			}
		}
	}
	return nil
}

// sameDigest compares what was sealed where nobody merged: one segment of one cut on both sides.
func (r *Repair) sameDigest(list []*Manifest) error {
	if len(r.own) != 1 || len(list) != 1 {
		return nil
	}
	own := r.own[0].manifest.Load()
	if own.Chunks == 0 || list[0].Chunks == 0 { // it was merged, and may lack what was trimmed
		return nil
	}
	a, b := own.Contents, list[0].Contents
	a.Values, b.Values = 0, 0 // each node groups them as they come
	if a != b {
		return fmt.Errorf("segment %s: it was sealed here with %+v, there with %+v: %w", r.own[0].name(), a, b, ErrDiffers)
	}
	return nil
}

// sameCheckpoint wants a checkpoint from whoever takes the place of one that a start may need, and compares both.
func (r *Repair) sameCheckpoint(list []*Manifest) error {
	sealed := r.log.sealedSegments()
	for _, s := range r.own {
		own := s.manifest.Load()
		i := slices.IndexFunc(list, func(m *Manifest) bool { return m.Last == s.last })
		needed := own.Chunks > 0 && len(sealed)-slices.Index(sealed, s) <= 2
		switch {
		case needed && (i < 0 || list[i].Chunks == 0):
			return fmt.Errorf("segment %s: its checkpoint is needed, and not there: %w", s.name(), ErrUnfit)
		case i >= 0 && own.Chunks > 0 && list[i].Chunks > 0 && list[i].ChunkSum != own.ChunkSum:
			return fmt.Errorf("segment %s: the states as of entry %d differ: %w", s.name(), own.Cut.Index, ErrDiffers)
		}
	}
	return nil
}

// hasAll wants every record that is readable and that the own ones have. If none of them is damaged there must be more: some
// of what is missing.
func (r *Repair) hasAll(list []*Manifest) error {
	for _, s := range r.own {
		var short error
		s.each(func(e Extent) {
			if r.log.live(e) == 0 || short != nil {
				return
			}
			low, _ := r.log.part(e.Partition).bounds()
			var spans []plan.Span
			for _, m := range list {
				if o, ok := m.extent(e.Partition); ok {
					spans = append(spans, plan.Span{Base: int64(o.Base), Next: int64(o.Next)})
				}
			}
			if hole, _, missing := plan.Hole(int64(max(low, e.Base)), int64(e.Next), spans, plan.Span{}); missing {
				short = fmt.Errorf("partition %d, records %d to %d: %w", e.Partition, hole.Base, hole.Next-1, ErrUnfit)
			}
		})
		if short != nil {
			return short
		}
	}
	holes, fills := r.log.repairs.known(), false
	for _, m := range list {
		for _, e := range m.Extents {
			p := r.log.part(e.Partition)
			if p == nil {
				continue
			}
			if _, end := p.bounds(); end > 0 && e.Next > end {
				return fmt.Errorf("partition %d ends at %d, it has records up to %d: %w", e.Partition, end, e.Next-1, ErrDiffers)
			}
			for _, h := range holes[e.Partition] {
				fills = fills || int64(e.Base) < h.Next && h.Base < int64(e.Next)
			}
		}
	}
	if !fills && !r.damaged() {
		return fmt.Errorf("none of the missing records is in them: %w", ErrUnfit)
	}
	return nil
}

// Swap gives the log the received segments in the place of the own ones, which are deleted. Readers go on: those inside an old
// segment stay in it until they leave. Until the new ones are durable in their place the old ones are the log, also after a
// crash; where neither lies inside the other, what a crash leaves is a hole, and the received segments.
//
// The error wraps ErrLater, ErrUnfit or ErrDiffers, and nothing has changed; or ErrFailed, and the process must end.
func (r *Repair) Swap() error {
	l := r.log
	if !l.repairs.swapping.TryLock() {
		return fmt.Errorf("an install is under way: %w", ErrLater)
	}
	defer l.repairs.swapping.Unlock()
	l.tidy.mu.Lock()
	defer l.tidy.mu.Unlock()
	for _, s := range r.own {
		switch {
		case !l.set.has(s):
			return fmt.Errorf("segment %s is no part of the log any more: %w", s.name(), ErrLater)
		case l.scrub.finding(s).fault == "" && s.first <= l.holds.held():
			return fmt.Errorf("segment %s is being copied: %w", s.name(), ErrLater)
		}
	}
	from := filepath.Join(l.options.Dir, repairDir)
	var list []*Manifest
	for i := range r.want {
		m, err := received(from, &r.want[i])
		if err != nil || m == nil {
			return errors.Join(fmt.Errorf("segment %s: %w", r.want[i].Name(), ErrLater), err)
		}
		list = append(list, m)
	}
	if err := r.fits(list); err != nil {
		return err
	}
	if err := r.swap(list); err != nil {
		err = fmt.Errorf("%w: repair of segments %d to %d: %w", ErrFailed, list[0].First, list[len(list)-1].Last, err)
		l.fail(err)
		return err
	}
	return nil
}

// swap moves folders, and changes the list of segments.
func (r *Repair) swap(list []*Manifest) error {
	l := r.log
	news := r.newcomers(list)
	crossing := len(r.own) > 0 && !plan.Nested(cutsOf(r.own), cutsOf(news))
	move := func() error { return fault.Step("repair.move", func() error { return r.move(news) }) }
	if crossing { // a start could not tell which to keep: first the old ones go
		for _, s := range news {
			s.shut = true // readers wait at the door
		}
	} else if err := move(); err != nil {
		return err
	}
	l.set.change(func(now []*segment) []*segment {
		now = slices.DeleteFunc(now, func(s *segment) bool { return contains(r.own, s) })
		now = append(now, news...)
		slices.SortStableFunc(now, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
		return now
	})
	for _, s := range news {
		l.checkedNow(s)
	}
	l.turnHead(news[len(news)-1])
	err := fault.Step("repair.leave", func() error {
		for _, s := range r.own {
			if err := l.leave(s); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && crossing {
		err = move()
		for _, s := range news {
			s.letIn(nil)
		}
	}
	if err != nil {
		return err
	}
	l.metrics.repaired.Add(float64(len(news)))
	l.FindHoles()
	l.saveScrub()
	l.tidy.wake()
	return l.forgetAside(news[0].first, news[len(news)-1].last)
}

// newcomers are the received segments under names that are free here: with the same cuts as one that goes, the next
// generation of it, which a start prefers.
func (r *Repair) newcomers(list []*Manifest) (news []*segment) {
	l := r.log
	for _, m := range list {
		id := segmentID{first: m.First, last: m.Last}
		for _, s := range r.own {
			if s.first == id.first && s.last == id.last {
				id.generation = s.generation + 1
			}
		}
		dir := filepath.Join(l.options.Dir, segmentsDir, id.String())
		for {
			if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
				break
			}
			id.generation++
			dir = filepath.Join(l.options.Dir, segmentsDir, id.String())
		}
		s := newSealed(dir, id, m)
		s.open = l.opener(s, m, func(error) { s.hurt() })
		news = append(news, s)
	}
	return news
}

// move puts the received folders in their place.
func (r *Repair) move(news []*segment) error {
	l := r.log
	from, to := filepath.Join(l.options.Dir, repairDir), filepath.Join(l.options.Dir, segmentsDir)
	for i, s := range news {
		if err := os.Rename(filepath.Join(from, r.want[i].Name()), s.dir); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(to), syncDir(from))
}

// turnHead notes the folder of the newest sealed segment, if that was repaired.
func (l *Log) turnHead(s *segment) {
	for {
		old := l.head.Load()
		if old == nil || old.Number != s.last {
			return
		}
		h := *old
		h.Dir, h.From = s.dir, s.manifest.Load().From
		if l.head.CompareAndSwap(old, &h) {
			return
		}
	}
}

// ForgetRepairs deletes what was received for repairs that nobody needs any more.
func (l *Log) ForgetRepairs() error {
	dir := filepath.Join(l.options.Dir, repairDir)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(os.RemoveAll(dir), syncDir(l.options.Dir))
}

// present is the segment that has the records of s now: s, unless it was repaired meanwhile.
func (l *Log) present(s *segment) *segment {
	if l.set.has(s) {
		return s
	}
	m := s.manifest.Load()
	want := listed(s, m)
	for _, o := range l.sealedSegments() {
		if want.is(o.manifest.Load()) {
			return o
		}
	}
	return s
}

// Difference is a segment that two nodes cut at the same entry and did not merge, with other batches.
type Difference struct {
	Segment    string
	Own, Other Sum
}

// Differences compares another node's listing with the log.
func (l *Log) Differences(li *Listing) (list []Difference) {
	var own Listing
	for _, s := range l.sealedSegments() {
		own.Segments = append(own.Segments, listed(s, s.manifest.Load()))
	}
	return own.differences(li)
}

// Disputes names the segments that hold other batches in one listing than in the other.
func (li *Listing) Disputes(other *Listing) (names []string) {
	for _, d := range li.differences(other) {
		names = append(names, d.Segment)
	}
	return names
}

// differences passes over segments that somebody wrote again: they may lack what was trimmed.
func (li *Listing) differences(other *Listing) (list []Difference) {
	for i, j := 0, 0; i < len(li.Segments) && j < len(other.Segments); {
		a, b := &li.Segments[i], &other.Segments[j]
		switch {
		case a.Last < b.First:
			i++
			continue
		case b.Last < a.First:
			j++
			continue
		}
		whole := a.First == a.Last && b.First == b.Last && a.Generation == 0 && b.Generation == 0
		if whole && !a.same(b) {
			list = append(list, Difference{a.Name(), a.Sum, b.Sum})
		}
		if a.Last <= b.Last {
			i++
		} else {
			j++
		}
	}
	return list
}

// same says whether two nodes list the same batches.
func (e *Listed) same(o *Listed) bool {
	a, b := *e, *o
	a.Generation, a.Disk, a.Fetched = b.Generation, b.Disk, b.Fetched
	return a == b
}
