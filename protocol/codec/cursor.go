package codec

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Cursor reads values one after another and never copies: what it returns are slices of
// its input. Its error is sticky: after a fault every read returns a zero value, so check
// Err once at the end. It is strict by itself; bytes that were not scanned before are safe, too.
type Cursor struct {
	b   []byte
	off int
	err error
}

// NewCursor starts at the first byte of b.
func NewCursor(b []byte) Cursor { return Cursor{b: b} }

// Err is the first fault, with its place.
func (c *Cursor) Err() error { return c.err }

// Off is the offset of the next value.
func (c *Cursor) Off() int { return c.off }

// More reports whether bytes are left and no fault was met.
func (c *Cursor) More() bool { return c.err == nil && c.off < len(c.b) }

// Rest is what has not been read.
func (c *Cursor) Rest() []byte { return c.b[c.off:] }

// Fail makes err the cursor's fault, unless it has one.
func (c *Cursor) Fail(err error) {
	if c.err == nil {
		c.err = fmt.Errorf("byte %d of %d: %w", c.off, len(c.b), err)
	}
}

// head reads a head of the wanted class.
func (c *Cursor) head(want class) (head, bool) {
	if c.err != nil {
		return head{}, false
	}
	h, err := readHead(c.b, c.off)
	if err == nil && h.class != want {
		err = ErrType
	}
	if err != nil {
		c.Fail(err)
		return head{}, false
	}
	return h, true
}

// Array reads the head of an array of at most most values.
func (c *Cursor) Array(most int) int { return c.count(classArray, most, 1) }

// Map reads the head of a map of at most most pairs.
func (c *Cursor) Map(most int) int { return c.count(classMap, most, 2) }

func (c *Cursor) count(want class, most, valuesEach int) int {
	h, ok := c.head(want)
	if !ok {
		return 0
	}
	if h.arg > uint64(most) || h.arg*uint64(valuesEach) > uint64(len(c.b)-h.next) {
		c.Fail(ErrCount)
		return 0
	}
	c.off = h.next
	return int(h.arg)
}

// Uint reads an integer that is not negative.
func (c *Cursor) Uint() uint64 {
	if c.err == nil && c.off < len(c.b) && c.b[c.off] < fixMap { // most are small
		c.off++
		return uint64(c.b[c.off-1])
	}
	h, ok := c.head(classInt)
	if !ok {
		return 0
	}
	if h.neg {
		c.Fail(ErrRange)
		return 0
	}
	c.off = h.next
	return h.arg
}

// UintMax reads an integer from 0 to most.
func (c *Cursor) UintMax(most uint64) uint64 {
	at := c.off
	v := c.Uint()
	if v > most {
		c.off = at
		c.Fail(ErrRange)
		return 0
	}
	return v
}

// Int reads an integer that fits int64.
func (c *Cursor) Int() int64 {
	h, ok := c.head(classInt)
	if !ok {
		return 0
	}
	if !h.neg && h.arg > math.MaxInt64 {
		c.Fail(ErrRange)
		return 0
	}
	c.off = h.next
	return int64(h.arg)
}

// Bool reads a bool.
func (c *Cursor) Bool() bool {
	h, ok := c.head(classBool)
	if !ok {
		return false
	}
	c.off = h.next
	return h.arg == 1
}

// Nil reads a nil if one comes next, and reports whether it did.
func (c *Cursor) Nil() bool {
	if c.err != nil || c.off >= len(c.b) || c.b[c.off] != tagNil {
		return false
	}
	c.off++
	return true
}

// Str reads a str of at most most bytes.
func (c *Cursor) Str(most int) []byte {
	at := c.off
	s := c.bytes(classStr, most)
	if !utf8.Valid(s) {
		c.off = at
		c.Fail(ErrUTF8)
		return nil
	}
	return s
}

// Bin reads a bin of at most most bytes.
func (c *Cursor) Bin(most int) []byte { return c.bytes(classBin, most) }

// StrInto reads a str of at most most bytes into *s. A string that is the same already stays,
// which saves the allocation where values repeat.
func (c *Cursor) StrInto(s *string, most int) {
	if b := c.Str(most); *s != string(b) {
		*s = string(b)
	}
}

// Fixed reads a bin of exactly len(dst) bytes into dst.
func (c *Cursor) Fixed(dst []byte) {
	b := c.Bin(len(dst))
	if len(b) != len(dst) {
		c.Fail(ErrRange)
		return
	}
	copy(dst, b)
}

func (c *Cursor) bytes(want class, most int) []byte {
	h, ok := c.head(want)
	if !ok {
		return nil
	}
	switch {
	case h.arg > uint64(most):
		c.Fail(ErrCount)
		return nil
	case h.arg > uint64(len(c.b)-h.next):
		c.Fail(ErrShort)
		return nil
	}
	end := h.next + int(h.arg)
	c.off = end
	return c.b[h.next:end:end]
}

// Skip reads one value of any shape, nested at most DepthMax deep.
func (c *Cursor) Skip() {
	if c.err != nil {
		return
	}
	n, err := ScanPrefix(c.b[c.off:], DepthMax)
	if err != nil {
		c.Fail(err)
		return
	}
	c.off += n
}
