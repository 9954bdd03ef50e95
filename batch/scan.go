package batch

import (
	"bytes"
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Flags tell what a batch holds, so that a reader need not look.
type Flags uint8

// Flags. The others are refused until a version defines them.
const (
	HasKeys Flags = 1 << iota
	HasTTL
	encodingMask Flags = 0xf0 // 0 = plain records
)

const knownFlags = HasKeys | HasTTL

// Info is what Scan learns of a blob.
type Info struct {
	Count    uint32
	Flags    Flags
	MinTTLMs uint64 // the shortest time to live in it; 0 = no record has one
}

// Scan is the one strict validation of a blob from a client: exactly whole records, within
// lim, headers with distinct valid names. The error is *LimitError or *FormatError. It allocates
// only when it fails, or for a record of more than 16 headers.
func Scan(blob []byte, lim Limits) (Info, error) {
	var info Info
	if len(blob) == 0 {
		return info, &FormatError{"blob holds no record", codec.ErrShort}
	}
	if len(blob) > lim.Bytes {
		return info, &LimitError{"batch bytes", len(blob), lim.Bytes}
	}
	c := codec.NewCursor(blob)
	for c.More() {
		if int(info.Count) == lim.Records {
			return info, &LimitError{"batch records", int(info.Count) + 1, lim.Records}
		}
		if err := info.scanRecord(&c, &lim); err != nil {
			return info, err
		}
		info.Count++
	}
	return info, nil
}

// scanRecord checks the next record and adds it to info.
func (info *Info) scanRecord(c *codec.Cursor, lim *Limits) error {
	start := c.Off()
	if c.Array(fields) != fields {
		c.Fail(codec.ErrCount)
	}
	if !c.Nil() {
		if n := len(c.Bin(lim.RecordBytes)); n > lim.KeyBytes {
			return &LimitError{"key bytes", n, lim.KeyBytes}
		}
		info.Flags |= HasKeys
	}
	if !c.Nil() {
		if err := scanHeaders(c, lim); err != nil {
			return err
		}
	}
	c.Bin(lim.Bytes)
	if !c.Nil() {
		info.addTTL(c)
	}
	if err := c.Err(); err != nil {
		return &FormatError{fmt.Sprintf("record %d", info.Count), err}
	}
	if n := c.Off() - start; n > lim.RecordBytes {
		return &LimitError{"record bytes", n, lim.RecordBytes}
	}
	return nil
}

// addTTL reads a time to live; 0 would mean none and has no place there.
func (info *Info) addTTL(c *codec.Cursor) {
	ttl := c.UintMax(ttlMsMax)
	if ttl == 0 {
		c.Fail(codec.ErrRange)
		return
	}
	if info.MinTTLMs == 0 || ttl < info.MinTTLMs {
		info.MinTTLMs = ttl
	}
	info.Flags |= HasTTL
}

// scanHeaders checks a record's headers.
func scanHeaders(c *codec.Cursor, lim *Limits) error {
	const most = 1 << 16
	n := c.Map(most)
	if n > lim.HeaderCount {
		return &LimitError{"headers", n, lim.HeaderCount}
	}
	if n == 0 {
		c.Fail(codec.ErrCount) // no headers are nil
	}
	var room [16][]byte
	names, bytes := room[:0], 0
	for range n {
		name := c.Str(lim.RecordBytes)
		bytes += len(name) + len(c.Str(lim.RecordBytes))
		if contains(names, name) {
			c.Fail(codec.ErrDuplicate)
		}
		if names = append(names, name); c.Err() != nil {
			return nil // the caller reports it with the record's number
		}
	}
	if bytes > lim.HeaderBytes {
		return &LimitError{"header bytes", bytes, lim.HeaderBytes}
	}
	return nil
}

func contains(names [][]byte, name []byte) bool {
	for _, n := range names {
		if bytes.Equal(n, name) {
			return true
		}
	}
	return false
}
