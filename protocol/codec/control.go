package codec

import (
	"bytes"
	"math"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// appender is the io.Writer under an Encoder.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// Encoder writes control messages with the library's low-level encoder. Get one with
// Encode. Writing to memory does not fail, so its methods return nothing.
type Encoder struct {
	out appender
	lib *msgpack.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(Encoder)
	e.lib = msgpack.NewEncoder(&e.out)
	return e
}}

// Encode appends what write writes.
func Encode(dst []byte, write func(*Encoder)) []byte {
	e := encoders.Get().(*Encoder)
	e.out.b = dst
	write(e)
	dst = e.out.b
	e.out.b = nil
	encoders.Put(e)
	return dst
}

// Array writes the head of an array of n values.
func (e *Encoder) Array(n int) { _ = e.lib.EncodeArrayLen(n) }

// Uint writes an unsigned integer.
func (e *Encoder) Uint(v uint64) { _ = e.lib.EncodeUint(v) }

// Int writes a signed integer.
func (e *Encoder) Int(v int64) { _ = e.lib.EncodeInt(v) }

// Str writes a str; bytes that are no UTF-8 are replaced, since a reader would refuse them.
func (e *Encoder) Str(s string) {
	if !utf8.ValidString(s) {
		s = string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD")))
	}
	_ = e.lib.EncodeString(s)
}

// Bin writes a bin. Nil bytes are an empty bin.
func (e *Encoder) Bin(b []byte) {
	if b == nil {
		b = []byte{}
	}
	_ = e.lib.EncodeBytes(b)
}

// Bool writes a bool.
func (e *Encoder) Bool(v bool) { _ = e.lib.EncodeBool(v) }

// Decoder reads control messages with the library's low-level decoder. Its input must
// have passed Scan, which bounds every count and length by the bytes that are there; the
// limits given here are checked before memory is allocated for a field. The error is sticky.
type Decoder struct {
	in  *bytes.Reader
	lib *msgpack.Decoder
	err error
}

// NewDecoder reads b, which passed Scan.
func NewDecoder(b []byte) *Decoder {
	in := bytes.NewReader(b)
	return &Decoder{in: in, lib: msgpack.NewDecoder(in)}
}

// Err is the first fault.
func (d *Decoder) Err() error { return d.err }

// Fail makes err the decoder's fault, unless it has one.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// is reports whether the next value has the class; otherwise the decoder fails.
func (d *Decoder) is(want class) bool {
	if d.err != nil {
		return false
	}
	c, err := d.lib.PeekCode()
	if err != nil {
		d.Fail(ErrShort)
		return false
	}
	if classOf(c) != want {
		d.Fail(ErrType)
		return false
	}
	return true
}

// classOf tells the class from a first byte.
func classOf(c byte) class {
	switch {
	case c < fixMap || c >= fixNeg:
		return classInt
	case c < fixArray:
		return classMap
	case c < fixStr:
		return classArray
	case c < tagNil:
		return classStr
	}
	return tags[c-tagNil].class
}

// Array reads the head of an array of at most most values.
func (d *Decoder) Array(most int) int {
	if !d.is(classArray) {
		return 0
	}
	n, err := d.lib.DecodeArrayLen()
	switch {
	case err != nil:
		d.Fail(err)
		return 0
	case n > most:
		d.Fail(ErrCount)
		return 0
	}
	return n
}

// Uint reads an integer from 0 to most.
func (d *Decoder) Uint(most uint64) uint64 {
	if !d.is(classInt) {
		return 0
	}
	if c, _ := d.lib.PeekCode(); c >= fixNeg || c >= tagI8 && c <= tagI64 {
		d.Fail(ErrRange)
		return 0
	}
	v, err := d.lib.DecodeUint64()
	if err != nil {
		d.Fail(err)
	} else if v > most {
		d.Fail(ErrRange)
	}
	if d.err != nil {
		return 0
	}
	return v
}

// Int reads an integer that fits int64.
func (d *Decoder) Int() int64 {
	if !d.is(classInt) {
		return 0
	}
	if c, _ := d.lib.PeekCode(); c == tagU64 {
		return int64(d.Uint(math.MaxInt64))
	}
	v, err := d.lib.DecodeInt64()
	if err != nil {
		d.Fail(err)
		return 0
	}
	return v
}

// Str reads a str of at most most bytes.
func (d *Decoder) Str(most int) string { return string(d.bytes(classStr, most)) }

// Bin reads a bin of at most most bytes into memory of its own.
func (d *Decoder) Bin(most int) []byte { return d.bytes(classBin, most) }

func (d *Decoder) bytes(want class, most int) []byte {
	if !d.is(want) {
		return nil
	}
	n, err := d.lib.DecodeBytesLen()
	switch {
	case err != nil:
		d.Fail(err)
		return nil
	case n > most:
		d.Fail(ErrCount)
		return nil
	case n > d.in.Len():
		d.Fail(ErrShort)
		return nil
	}
	b := make([]byte, n)
	if err := d.lib.ReadFull(b); err != nil {
		d.Fail(ErrShort)
		return nil
	}
	return b
}

// Bool reads a bool.
func (d *Decoder) Bool() bool {
	if !d.is(classBool) {
		return false
	}
	v, err := d.lib.DecodeBool()
	if err != nil {
		d.Fail(err)
	}
	return v
}

// Skip reads n values of any shape.
func (d *Decoder) Skip(n int) {
	for range n {
		if d.err != nil {
			return
		}
		if err := d.lib.Skip(); err != nil {
			d.Fail(err)
		}
	}
}
