package batch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Cursor walks the records of a blob that was scanned before, or came out of a parsed
// batch. It is safe on any bytes; a fault ends the walk and shows in Err.
type Cursor struct {
	c codec.Cursor
	n int
}

// Records starts at the first record of blob.
func Records(blob []byte) Cursor { return Cursor{c: codec.NewCursor(blob)} }

// Next decodes the next record into r and reports whether there was one. Key and Body are
// slices of the blob. Headers reuses r's slice, and its strings where they are the same again; only
// new header text is allocated.
func (c *Cursor) Next(r *Record) bool {
	if !c.c.More() {
		return false
	}
	if c.c.Array(fields) != fields {
		c.c.Fail(codec.ErrCount)
	}
	r.Key = nil
	if !c.c.Nil() {
		r.Key = c.c.Bin(math.MaxInt32)
	}
	r.Headers = r.Headers[:0]
	if !c.c.Nil() {
		c.headers(r)
	}
	r.Body = c.c.Bin(math.MaxInt32)
	r.TTL = 0
	if !c.c.Nil() {
		r.TTL = time.Duration(c.c.UintMax(ttlMsMax)) * time.Millisecond
	}
	c.n++
	return c.c.Err() == nil
}

// headers reads the header map into r.
func (c *Cursor) headers(r *Record) {
	n := c.c.Map(math.MaxInt32)
	for i := 0; i < n && c.c.Err() == nil; i++ {
		r.Headers = slices.Grow(r.Headers, 1)[:i+1]
		c.c.StrInto(&r.Headers[i].Name, math.MaxInt32)
		c.c.StrInto(&r.Headers[i].Value, math.MaxInt32)
	}
}

// Rest is what Next has not read of the blob.
func (c *Cursor) Rest() []byte { return c.c.Rest() }

// Err is the fault that ended the walk, or nil.
func (c *Cursor) Err() error {
	if err := c.c.Err(); err != nil {
		return &FormatError{fmt.Sprintf("record %d", c.n-1), err}
	}
	return nil
}
