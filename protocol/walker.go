package protocol

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// controlMessage is a message that goes through the library. walk names its fields in
// order, once, for writing and for reading.
type controlMessage interface {
	Message
	walk(w *walker)
}

// walker visits the fields of a message to write them, to read them, or (with neither
// encoder nor decoder) to count them.
type walker struct {
	enc  *codec.Encoder
	dec  *codec.Decoder
	n    int // fields visited
	have int // fields that the frame being read has
}

// appendControl appends the frame of m.
func appendControl(dst []byte, m controlMessage, id uint64) []byte {
	dst, start := begin(dst)
	dst = codec.Encode(dst, func(e *codec.Encoder) {
		e.Array(2 + count(m.walk))
		e.Uint(uint64(m.Kind()))
		e.Uint(id)
		m.walk(&walker{enc: e})
	})
	return end(dst, start, 0)
}

// count visits fields only to count them.
func count(walk func(*walker)) int {
	var w walker
	walk(&w)
	return w.n
}

// decodeControl reads the fields of m from a body that passed the scan.
func decodeControl(body []byte, m controlMessage) error {
	d := codec.NewDecoder(body)
	have := d.Array(fieldsMax)
	d.Uint(math.MaxUint8)
	d.Uint(math.MaxUint64)
	readFields(d, have-2, m.walk)
	return d.Err()
}

// readFields reads the known fields of an array and skips the ones that a later version added.
func readFields(d *codec.Decoder, have int, walk func(*walker)) {
	w := walker{dec: d, have: have}
	walk(&w)
	d.Skip(w.have - w.n)
}

// next counts a field; when reading it fails if the frame has no more.
func (w *walker) next() {
	w.n++
	if w.dec != nil && w.n > w.have {
		w.dec.Fail(codec.ErrCount)
	}
}

// group visits a nested array of fields.
func (w *walker) group(walk func(*walker)) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Array(count(walk))
		walk(&walker{enc: w.enc})
	case w.dec != nil:
		readFields(w.dec, w.dec.Array(fieldsMax), walk)
	}
}

// list visits an array of at most most values, each by walk. Memory grows as values are
// read: a count alone allocates little.
func list[T any](w *walker, vs *[]T, most int, walk func(*walker, *T)) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Array(len(*vs))
		for i := range *vs {
			walk(&walker{enc: w.enc}, &(*vs)[i])
		}
	case w.dec != nil:
		n := w.dec.Array(most)
		*vs = nil
		for range n {
			if w.dec.Err() != nil {
				return
			}
			var v T
			walk(&walker{dec: w.dec, have: 1}, &v)
			*vs = append(*vs, v)
		}
	}
}

func (w *walker) uint(v *uint64) { w.uintMax(v, math.MaxUint64) }

func (w *walker) uintMax(v *uint64, most uint64) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Uint(*v)
	case w.dec != nil:
		*v = w.dec.Uint(most)
	}
}

// small visits an unsigned integer type narrower than 64 bits.
func small[T ~uint8 | ~uint16 | ~uint32](w *walker, v *T) {
	wide := uint64(*v)
	w.uintMax(&wide, uint64(^T(0)))
	if w.dec != nil {
		*v = T(wide)
	}
}

func (w *walker) int(v *int64) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Int(*v)
	case w.dec != nil:
		*v = w.dec.Int()
	}
}

func (w *walker) bool(v *bool) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Bool(*v)
	case w.dec != nil:
		*v = w.dec.Bool()
	}
}

// str visits a name or identifier. It is never cut: a part of it would mean another thing, so
// the reader refuses one that is too long.
func (w *walker) str(v *string, most int) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Str(*v)
	case w.dec != nil:
		*v = w.dec.Str(most)
	}
}

// text visits words for people. What is too long for the reader is cut.
func (w *walker) text(v *string, most int) {
	if w.enc == nil {
		w.str(v, most)
		return
	}
	w.next()
	w.enc.Str(cut(*v, most))
}

// cut keeps whole characters of at most most bytes together.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func (w *walker) bin(v *[]byte, most int) {
	w.next()
	switch {
	case w.enc != nil:
		w.enc.Bin(*v)
	case w.dec != nil:
		*v = w.dec.Bin(most)
	}
}

// fixed visits a bin of exactly len(v) bytes.
func (w *walker) fixed(v []byte) {
	b := v
	if w.bin(&b, len(v)); w.dec == nil {
		return
	}
	if len(b) != len(v) {
		w.dec.Fail(codec.ErrRange)
		return
	}
	copy(v, b)
}

// lateBin is bin for a last field that programs of before do not send: it may be missing.
func (w *walker) lateBin(v *[]byte, most int) {
	if w.dec != nil && w.n == w.have {
		return
	}
	w.bin(v, most)
}
