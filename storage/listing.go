package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// A listing names every sealed segment of a log up to a cut. It is what raft's snapshot carries to a node that is too far
// behind, and what the files INSTALL and INSTALLED say:
//
//	+---------+---------------------------------------------------+----------+
//	| version | msgpack array: index and term of the cut, its     | CRC-32C  |
//	| 0x01    | meta data (bin), the segments' fields, packed     | 4 B, BE  |
//	|         | one behind the other (bin)                        |          |
//	+---------+---------------------------------------------------+----------+
//
// The CRC is over everything before it.
const (
	listingVersion = 1
	listingFields  = 4

	// ListingBytesMax bounds an encoded listing: more than 100,000 segments.
	ListingBytesMax = 16 << 20
)

// ErrListing is wrapped by every error about a listing that is not what it should be.
var ErrListing = errors.New("the list of segments is damaged")

// Listing names the sealed segments up to a cut, oldest first. The last one ends there and has the checkpoint.
type Listing struct {
	Point    Point
	Segments []Listed
}

// Listed names one sealed segment. Two with the same cuts, entries, counts and Sum hold the same batches, however each node
// laid them out.
type Listed struct {
	First, Last, Generation uint64 // its name
	From                    uint64 // raft index of its first entry
	Index, Term             uint64 // where it was cut
	Batches, Records, Bytes uint64
	Sum                     Sum
	Disk                    uint64 // bytes of its files, where it was listed
	Fetched                 bool   // in INSTALL: it came from another node
}

func (e *Listed) id() segmentID { return segmentID{e.First, e.Last, e.Generation} }

// Name is that of its folder.
func (e *Listed) Name() string { return e.id().String() }

// listed describes a sealed segment.
func listed(s *segment, m *Manifest) Listed {
	c := &m.Contents
	return Listed{First: s.first, Last: s.last, Generation: s.generation, From: m.From, Index: m.Cut.Index, Term: m.Cut.Term,
		Batches: c.Batches, Records: c.Records, Bytes: c.Bytes, Sum: c.Sum, Disk: uint64(m.diskBytes())}
}

// is says whether a manifest is of a segment with the same batches.
func (e *Listed) is(m *Manifest) bool {
	c := &m.Contents
	return m.First == e.First && m.Last == e.Last && m.From == e.From && m.Cut.Index == e.Index && m.Cut.Term == e.Term &&
		c.Batches == e.Batches && c.Records == e.Records && c.Bytes == e.Bytes && c.Sum == e.Sum
}

// Head is the number of the last cut.
func (li *Listing) Head() uint64 { return li.Segments[len(li.Segments)-1].Last }

// endsAt says whether a listing, if there is one, ends at a head.
func (li *Listing) endsAt(h *Head) bool {
	return li != nil && li.Head() == h.Number && li.Point.Index == h.Point.Index && li.Point.Term == h.Point.Term
}

// Append encodes a listing.
func (li *Listing) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, listingVersion)
	dst = codec.AppendArray(dst, listingFields)
	dst = codec.AppendUint(dst, li.Point.Index)
	dst = codec.AppendUint(dst, li.Point.Term)
	dst = codec.AppendBin(dst, li.Point.Meta)
	var packed []byte
	for i := range li.Segments {
		packed = li.Segments[i].append(packed)
	}
	dst = codec.AppendBin(dst, packed)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (e *Listed) append(dst []byte) []byte {
	for _, v := range []uint64{e.First, e.Last, e.Generation, e.From, e.Index, e.Term, e.Batches, e.Records, e.Bytes, e.Sum[0], e.Sum[1], e.Disk} {
		dst = codec.AppendUint(dst, v)
	}
	return codec.AppendBool(dst, e.Fetched)
}

// ParseListing reads and checks a listing. Errors wrap ErrListing or ErrNewer.
func ParseListing(b []byte) (*Listing, error) {
	if len(b) < 5 || len(b) > ListingBytesMax {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrListing, len(b))
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), binary.BigEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("%w: CRC-32C is %08x, should be %08x", ErrListing, got, want)
	}
	if body[0] != listingVersion {
		return nil, fmt.Errorf("list of segments, format version %d, this program knows %d: %w", body[0], listingVersion, ErrNewer)
	}
	c := codec.NewCursor(body[1:])
	if c.Array(listingFields) != listingFields {
		c.Fail(codec.ErrCount)
	}
	li := &Listing{Point: Point{Index: c.Uint(), Term: c.Uint()}}
	li.Point.Meta = append([]byte(nil), c.Bin(metaBytesMax)...)
	packed := codec.NewCursor(c.Bin(len(body)))
	for packed.More() {
		var e Listed
		e.parse(&packed)
		li.Segments = append(li.Segments, e)
	}
	if err := errors.Join(c.Err(), packed.Err()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListing, err)
	}
	return li, li.check(len(c.Rest()))
}

func (e *Listed) parse(c *codec.Cursor) {
	for _, v := range []*uint64{&e.First, &e.Last, &e.Generation, &e.From, &e.Index, &e.Term, &e.Batches, &e.Records, &e.Bytes, &e.Sum[0], &e.Sum[1]} {
		*v = c.Uint()
	}
	e.Disk, e.Fetched = c.UintMax(math.MaxInt64), c.Bool()
}

// check holds what was read to the rules that every listing keeps.
func (li *Listing) check(trailing int) error {
	n := len(li.Segments)
	switch {
	case trailing > 0:
		return fmt.Errorf("%w: %d bytes behind its fields", ErrListing, trailing)
	case n == 0:
		return fmt.Errorf("%w: it has no segment", ErrListing)
	case li.Segments[n-1].Index != li.Point.Index || li.Segments[n-1].Term != li.Point.Term:
		return fmt.Errorf("%w: it is of entry %d, its last segment ends at entry %d", ErrListing, li.Point.Index, li.Segments[n-1].Index)
	}
	for i, e := range li.Segments {
		before := Listed{}
		if i > 0 {
			before = li.Segments[i-1]
		}
		if e.First <= before.Last || e.First > e.Last || e.From <= before.Index || e.From > e.Index {
			return fmt.Errorf("%w: segment %s, entries %d to %d, behind segment %s, which ends at entry %d", ErrListing, e.Name(), e.From, e.Index, before.Name(), before.Index)
		}
	}
	return nil
}

// Listing names what is sealed now; ok is false while nothing is.
func (l *Log) Listing() (li *Listing, ok bool) {
	h, ok := l.Head()
	if !ok {
		return nil, false
	}
	li = &Listing{Point: h.Point}
	for _, s := range l.set.segments() {
		if m := s.manifest.Load(); m != nil && s.last <= h.Number {
			li.Segments = append(li.Segments, listed(s, m))
		}
	}
	return li, len(li.Segments) > 0
}

// group is some neighbours of a listing, and the segments of the log that hold the same batches; none: it is a single one,
// and the log has not got it.
type group struct {
	listed []Listed
	own    []*segment
}

// match compares a listing with the log. Each node merges segments when it likes: several of one may be one of the other.
// Where both end at the same cut their digests, which add up, tell whether they hold the same. A segment that is known to
// be damaged counts as missing.
func (l *Log) match(li *Listing) (groups []group) {
	var own []*segment
	for _, s := range l.set.segments() {
		if s.manifest.Load() != nil && l.scrub.finding(s).fault == "" {
			own = append(own, s)
		}
	}
	for rest := li.Segments; len(rest) > 0; {
		for len(own) > 0 && own[0].first < rest[0].First {
			own = own[1:]
		}
		listed, same := 1, 0
		if n, k := sameCuts(rest, own); k > 0 && sameBatches(rest[:n], own[:k]) {
			listed, same = n, k
		}
		groups = append(groups, group{rest[:listed], own[:same:same]})
		if same == 0 {
			groups[len(groups)-1].own = nil
		}
		rest, own = rest[listed:], own[same:]
	}
	return groups
}

// sameCuts finds the fewest listed segments and the fewest of ours, from the first ones on, that begin and end at the same
// cuts; 0 of ours if there are none.
func sameCuts(list []Listed, own []*segment) (listed, ours int) {
	if len(own) == 0 || own[0].first != list[0].First {
		return 1, 0
	}
	for listed, ours = 1, 1; listed <= len(list) && ours <= len(own); {
		switch a, b := list[listed-1].Last, own[ours-1].last; {
		case a == b:
			return listed, ours
		case a < b:
			listed++
		default:
			ours++
		}
	}
	return 1, 0
}

// sameBatches adds both up.
func sameBatches(list []Listed, own []*segment) bool {
	want, got := list[0], listed(own[0], own[0].manifest.Load())
	for i := range list[1:] {
		want.join(&list[1+i])
	}
	for _, s := range own[1:] {
		e := listed(s, s.manifest.Load())
		got.join(&e)
	}
	want.Generation, want.Disk, want.Fetched = got.Generation, got.Disk, got.Fetched
	return want == got
}

// join makes e cover the one behind it as well.
func (e *Listed) join(next *Listed) {
	e.Last, e.Index, e.Term = next.Last, next.Index, next.Term
	e.Batches, e.Records, e.Bytes = e.Batches+next.Batches, e.Records+next.Records, e.Bytes+next.Bytes
	e.Sum[0], e.Sum[1] = e.Sum[0]+next.Sum[0], e.Sum[1]+next.Sum[1]
}
