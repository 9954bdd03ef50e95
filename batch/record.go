package batch

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Header is one header of a record. Names may repeat nowhere in a record; both are UTF-8.
type Header struct {
	Name  string
	Value string
}

// Record is what a client publishes.
type Record struct {
	Key     []byte        // nil = no key; an empty key is a key
	Headers []Header      // in the order sent
	Body    []byte        // any bytes, may be empty
	TTL     time.Duration // 0 = lives as long as the topic keeps it; whole milliseconds
}

const (
	fields   = 4                                        // length of a record's array
	ttlMsMax = math.MaxInt64 / uint64(time.Millisecond) // the longest time.Duration
)

// AppendRecord appends the encoding of r. It does not check limits (Check does), and the
// caller vouches that headers are valid UTF-8.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = codec.AppendArray(dst, fields)
	if r.Key == nil {
		dst = codec.AppendNil(dst)
	} else {
		dst = codec.AppendBin(dst, r.Key)
	}
	if len(r.Headers) == 0 {
		dst = codec.AppendNil(dst)
	} else {
		dst = codec.AppendMap(dst, len(r.Headers))
		for i := range r.Headers {
			dst = codec.AppendStr(dst, r.Headers[i].Name)
			dst = codec.AppendStr(dst, r.Headers[i].Value)
		}
	}
	dst = codec.AppendBin(dst, r.Body)
	if ms := ttlMs(r.TTL); ms > 0 {
		return codec.AppendUint(dst, ms)
	}
	return codec.AppendNil(dst)
}

// ttlMs rounds up, so that a time to live never becomes none.
func ttlMs(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return min(ms, ttlMsMax)
}

// RecordLen is a cheap upper bound of the length of r's encoding.
func RecordLen(r *Record) int {
	const heads = 1 + 5 + 3 + 5 + 9
	n := heads + len(r.Key) + len(r.Body)
	for i := range r.Headers {
		n += 10 + len(r.Headers[i].Name) + len(r.Headers[i].Value)
	}
	return n
}

// Check reports the first way in which r breaks lim, as *LimitError, or an encoding
// fault of its headers. A client calls it before it queues a record.
func Check(r *Record, lim *Limits) error {
	switch {
	case len(r.Key) > lim.KeyBytes:
		return &LimitError{"key bytes", len(r.Key), lim.KeyBytes}
	case len(r.Headers) > lim.HeaderCount:
		return &LimitError{"headers", len(r.Headers), lim.HeaderCount}
	}
	bytes := 0
	for i, h := range r.Headers {
		bytes += len(h.Name) + len(h.Value)
		if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Value) {
			return &FormatError{fmt.Sprintf("header %q", h.Name), codec.ErrUTF8}
		}
		for _, other := range r.Headers[:i] {
			if other.Name == h.Name {
				return &FormatError{fmt.Sprintf("header %q", h.Name), codec.ErrDuplicate}
			}
		}
	}
	if bytes > lim.HeaderBytes {
		return &LimitError{"header bytes", bytes, lim.HeaderBytes}
	}
	if n := RecordLen(r); n > lim.RecordBytes { // the bound is a few bytes high: look exactly
		if n = len(AppendRecord(nil, r)); n > lim.RecordBytes {
			return &LimitError{"record bytes", n, lim.RecordBytes}
		}
	}
	return nil
}
