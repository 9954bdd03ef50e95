package codec

import "errors"

// First bytes of the encodings.
const (
	fixMap   = 0x80 // 1000xxxx
	fixArray = 0x90 // 1001xxxx
	fixStr   = 0xa0 // 101xxxxx
	tagNil   = 0xc0
	tagFalse = 0xc2
	tagTrue  = 0xc3
	tagBin8  = 0xc4
	tagBin16 = 0xc5
	tagBin32 = 0xc6
	tagF32   = 0xca
	tagF64   = 0xcb
	tagU8    = 0xcc
	tagU16   = 0xcd
	tagU32   = 0xce
	tagU64   = 0xcf
	tagI8    = 0xd0
	tagI16   = 0xd1
	tagI32   = 0xd2
	tagI64   = 0xd3
	tagStr8  = 0xd9
	tagStr16 = 0xda
	tagStr32 = 0xdb
	tagArr16 = 0xdc
	tagArr32 = 0xdd
	tagMap16 = 0xde
	tagMap32 = 0xdf
	fixNeg   = 0xe0 // 111xxxxx
)

// Faults of an encoding. Errors of this package wrap one of them.
var (
	ErrShort     = errors.New("msgpack ends in the middle of a value")
	ErrTrailing  = errors.New("bytes behind the msgpack value")
	ErrDepth     = errors.New("msgpack is nested too deep")
	ErrCount     = errors.New("msgpack count is beyond the bytes left or the field's limit")
	ErrMinimal   = errors.New("msgpack integer or length is not in its shortest form")
	ErrUTF8      = errors.New("msgpack str is not valid UTF-8")
	ErrType      = errors.New("msgpack value has the wrong type")
	ErrExt       = errors.New("msgpack extension types are not used here")
	ErrDuplicate = errors.New("msgpack map has a key twice")
	ErrRange     = errors.New("msgpack integer is out of the field's range")
)

// class is the shape of a value.
type class uint8

const (
	classBad class = iota
	classExt
	classNil
	classBool
	classInt   // arg holds the value
	classFloat // size holds the bytes that follow
	classStr   // arg holds the length
	classBin   // arg holds the length
	classArray // arg holds the count
	classMap   // arg holds the count of pairs
)

// head is the decoded first part of a value: its class, its argument, and where the
// rest starts.
type head struct {
	class class
	neg   bool // classInt: arg is the two's complement of a negative number
	arg   uint64
	next  int // offset of the first byte behind the head
}

// readHead decodes the head at b[off:], checking minimal form but no contents.
func readHead(b []byte, off int) (head, error) {
	if off >= len(b) {
		return head{}, ErrShort
	}
	c := b[off]
	switch {
	case c < fixMap:
		return head{class: classInt, arg: uint64(c), next: off + 1}, nil
	case c < fixArray:
		return head{class: classMap, arg: uint64(c & 0x0f), next: off + 1}, nil
	case c < fixStr:
		return head{class: classArray, arg: uint64(c & 0x0f), next: off + 1}, nil
	case c < tagNil:
		return head{class: classStr, arg: uint64(c & 0x1f), next: off + 1}, nil
	case c >= fixNeg:
		return head{class: classInt, neg: true, arg: uint64(int64(int8(c))), next: off + 1}, nil
	}
	return readTagged(b, off, tags[c-tagNil])
}

// tag describes a first byte of 0xc0..0xdf.
type tag struct {
	class  class
	size   uint8  // bytes of the argument
	signed bool   // the argument is a signed integer
	least  uint64 // smallest argument that needs this form (unsigned)
}

var tags = [32]tag{
	tagNil - 0xc0:   {class: classNil},
	0xc1 - 0xc0:     {class: classBad},
	tagFalse - 0xc0: {class: classBool},
	tagTrue - 0xc0:  {class: classBool},
	tagBin8 - 0xc0:  {class: classBin, size: 1},
	tagBin16 - 0xc0: {class: classBin, size: 2, least: 1 << 8},
	tagBin32 - 0xc0: {class: classBin, size: 4, least: 1 << 16},
	0xc7 - 0xc0:     {class: classExt},
	0xc8 - 0xc0:     {class: classExt},
	0xc9 - 0xc0:     {class: classExt},
	tagF32 - 0xc0:   {class: classFloat, size: 4},
	tagF64 - 0xc0:   {class: classFloat, size: 8},
	tagU8 - 0xc0:    {class: classInt, size: 1, least: 1 << 7},
	tagU16 - 0xc0:   {class: classInt, size: 2, least: 1 << 8},
	tagU32 - 0xc0:   {class: classInt, size: 4, least: 1 << 16},
	tagU64 - 0xc0:   {class: classInt, size: 8, least: 1 << 32},
	tagI8 - 0xc0:    {class: classInt, size: 1, signed: true},
	tagI16 - 0xc0:   {class: classInt, size: 2, signed: true},
	tagI32 - 0xc0:   {class: classInt, size: 4, signed: true},
	tagI64 - 0xc0:   {class: classInt, size: 8, signed: true},
	0xd4 - 0xc0:     {class: classExt},
	0xd5 - 0xc0:     {class: classExt},
	0xd6 - 0xc0:     {class: classExt},
	0xd7 - 0xc0:     {class: classExt},
	0xd8 - 0xc0:     {class: classExt},
	tagStr8 - 0xc0:  {class: classStr, size: 1, least: 1 << 5},
	tagStr16 - 0xc0: {class: classStr, size: 2, least: 1 << 8},
	tagStr32 - 0xc0: {class: classStr, size: 4, least: 1 << 16},
	tagArr16 - 0xc0: {class: classArray, size: 2, least: 1 << 4},
	tagArr32 - 0xc0: {class: classArray, size: 4, least: 1 << 16},
	tagMap16 - 0xc0: {class: classMap, size: 2, least: 1 << 4},
	tagMap32 - 0xc0: {class: classMap, size: 4, least: 1 << 16},
}

// readTagged decodes the argument behind a tag byte.
func readTagged(b []byte, off int, t tag) (head, error) {
	h := head{class: t.class, next: off + 1}
	switch t.class {
	case classBad:
		return h, ErrType
	case classExt:
		return h, ErrExt
	case classNil:
		return h, nil
	case classBool:
		h.arg = uint64(b[off] - tagFalse)
		return h, nil
	}
	if len(b)-h.next < int(t.size) {
		return h, ErrShort
	}
	h.next += int(t.size)
	if t.class == classFloat {
		return h, nil
	}
	h.arg = bigEndian(b[off+1 : h.next])
	if t.signed {
		return signedHead(h, t.size)
	}
	if h.arg < t.least {
		return h, ErrMinimal
	}
	return h, nil
}

// signedHead finishes an int8..int64, which in shortest form is always negative.
func signedHead(h head, size uint8) (head, error) {
	shift := 64 - 8*uint(size)
	v := int64(h.arg<<shift) >> shift
	least := [...]int64{1: -1 << 5, 2: -1 << 7, 4: -1 << 15, 8: -1 << 31}[size]
	if v >= least {
		return h, ErrMinimal
	}
	h.neg, h.arg = true, uint64(v)
	return h, nil
}

// bigEndian reads 1 to 8 bytes.
func bigEndian(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}
