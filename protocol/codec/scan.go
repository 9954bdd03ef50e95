package codec

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Limits of a scan.
const (
	DepthMax    = 8  // arrays and maps inside each other, on the wire
	mapPairsMax = 64 // pairs of one map; finding duplicate keys costs their square
)

// Scan checks that b is exactly one value of the subset (see the package text), nested at
// most depthMax deep. It is iterative and allocates nothing for ordinary messages; call it
// before any other decoder sees bytes from outside.
func Scan(b []byte, depthMax int) error {
	next, err := ScanPrefix(b, depthMax)
	if err == nil && next != len(b) {
		err = ErrTrailing
	}
	if err != nil {
		return fmt.Errorf("scan: byte %d of %d: %w", next, len(b), err)
	}
	return nil
}

// open is an array or map whose end has not come yet.
type open struct {
	left    uint64 // values to come; keys count
	isMap   bool
	keysAt  int // index in keys of this map's first key
	isValue bool
}

// span is a key's place in the input.
type span struct{ from, to int }

// ScanPrefix is Scan for the first value of b; it returns where that value ends, or
// where the fault is.
func ScanPrefix(b []byte, depthMax int) (next int, err error) {
	var (
		stackRoom [DepthMax]open
		keyRoom   [64]span
	)
	stack, keys := stackRoom[:0], keyRoom[:0]
	for off := 0; ; {
		h, err := readHead(b, off)
		if err != nil {
			return off, err
		}
		if top := len(stack) - 1; top >= 0 {
			if keys, err = stack[top].enter(b, off, h, keys); err != nil {
				return off, err
			}
		}
		if off, err = scanBody(b, h); err != nil {
			return off, err
		}
		if h.class == classArray || h.class == classMap {
			if len(stack) >= depthMax {
				return off, ErrDepth
			}
			stack = append(stack, opened(h, len(keys)))
		}
		for len(stack) > 0 && stack[len(stack)-1].left == 0 {
			if top := stack[len(stack)-1]; top.isMap {
				keys = keys[:top.keysAt]
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 {
			return off, nil
		}
	}
}

// opened starts counting the values of an array or map.
func opened(h head, keysAt int) open {
	if h.class == classMap {
		return open{left: 2 * h.arg, isMap: true, keysAt: keysAt}
	}
	return open{left: h.arg}
}

// enter counts one value of the container, and checks it if it is a key.
func (o *open) enter(b []byte, off int, h head, keys []span) ([]span, error) {
	o.left--
	if !o.isMap {
		return keys, nil
	}
	if o.isValue = !o.isValue; !o.isValue {
		return keys, nil
	}
	if h.class != classStr {
		return keys, ErrType
	}
	if uint64(len(b)-h.next) < h.arg {
		return keys, ErrShort
	}
	key := span{off, h.next + int(h.arg)}
	for _, k := range keys[o.keysAt:] {
		if bytes.Equal(b[k.from:k.to], b[key.from:key.to]) {
			return keys, ErrDuplicate
		}
	}
	return append(keys, key), nil
}

// scanBody checks what follows a head and returns where it ends.
func scanBody(b []byte, h head) (int, error) {
	left := uint64(len(b) - h.next)
	switch h.class {
	case classStr:
		if h.arg > left {
			return h.next, ErrShort
		}
		end := h.next + int(h.arg)
		if !utf8.Valid(b[h.next:end]) {
			return h.next, ErrUTF8
		}
		return end, nil
	case classBin:
		if h.arg > left {
			return h.next, ErrShort
		}
		return h.next + int(h.arg), nil
	case classArray:
		if h.arg > left {
			return h.next, ErrCount
		}
	case classMap:
		if h.arg > mapPairsMax || 2*h.arg > left {
			return h.next, ErrCount
		}
	}
	return h.next, nil
}
