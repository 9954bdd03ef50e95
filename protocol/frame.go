package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Message is one frame's content. Pointers to the structs of this package implement it.
type Message interface {
	Kind() Kind
	// AppendFrame appends the whole frame, its length included. The id is the request id: chosen by the
	// client, repeated in the answer, 0 for what nobody asked for.
	AppendFrame(dst []byte, id uint64) []byte
}

// frameHead is the length of a frame's length.
const frameHead = 4

// UnknownKindError says that a frame is of no kind that this version knows.
type UnknownKindError struct {
	Kind Kind
	ID   uint64
}

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("unknown frame kind %d", e.Kind)
}

// ErrMalformed is wrapped by every error about a frame that is not what PROTOCOL.md says.
var ErrMalformed = errors.New("malformed frame")

// malformed wraps a fault with where it was.
func malformed(kind Kind, err error) error {
	return fmt.Errorf("%w: %v: %w", ErrMalformed, kind, err)
}

// begin appends room for the length and returns where the frame starts.
func begin(dst []byte) ([]byte, int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

// end writes the length of the frame that starts at start and of which more bytes are to come.
func end(dst []byte, start, more int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-frameHead+more))
	return dst
}

// Peek reads kind and request id of a frame's body, and nothing else.
func Peek(body []byte) (Kind, uint64, error) {
	c := codec.NewCursor(body)
	kind, id, _ := readHead(&c)
	if err := c.Err(); err != nil {
		return kind, id, fmt.Errorf("%w: head: %w", ErrMalformed, err)
	}
	return kind, id, nil
}

// fieldsMax bounds the fields of a frame, those of later versions included.
const fieldsMax = 64

// readHead reads the array head, kind and request id; fields is what follows them.
func readHead(c *codec.Cursor) (kind Kind, id uint64, fields int) {
	n := c.Array(fieldsMax)
	if n < 2 {
		c.Fail(codec.ErrCount)
	}
	kind = Kind(c.UintMax(math.MaxUint8))
	id = c.Uint()
	return kind, id, n - 2
}

// Decode decodes a frame's body of any kind. What it returns shares no memory with body,
// except the blobs of Publish and Deliver. Errors wrap ErrMalformed or are *UnknownKindError.
func Decode(body []byte) (uint64, Message, error) {
	if err := codec.Scan(body, codec.DepthMax); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	kind, id, err := Peek(body)
	if err != nil {
		return id, nil, err
	}
	m := newMessage(kind)
	switch m := m.(type) {
	case nil:
		return id, nil, &UnknownKindError{kind, id}
	case hotMessage:
		c := codec.NewCursor(body)
		_, _, n := readHead(&c)
		m.read(&c, n)
		err = c.Err()
	case controlMessage:
		err = decodeControl(body, m)
	}
	if err != nil {
		return id, nil, malformed(kind, err)
	}
	return id, m, nil
}
