package protocol

import (
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// hotMessage is a message of the publish and delivery path: appended and sliced by hand.
type hotMessage interface {
	Message
	read(c *codec.Cursor, fields int)
}

// Fields of the hot messages, behind kind and request id.
const (
	publishFields   = 8
	publishedFields = 5
	deliverFields   = 8
	creditFields    = 3
)

// knownFields fails the cursor if a frame has fewer fields than version 1 gives it.
func knownFields(c *codec.Cursor, have, want int) {
	if have < want {
		c.Fail(codec.ErrCount)
	}
}

// skipUnknown reads the fields that a later version added.
func skipUnknown(c *codec.Cursor, have, want int) {
	for range have - want {
		c.Skip()
	}
	if c.Err() == nil && len(c.Rest()) > 0 {
		c.Fail(codec.ErrTrailing)
	}
}

// AppendHeader appends the frame of m up to and without its record blob of n bytes, which
// the caller sends behind it. The blob need not be in m.
func (m *Publish) AppendHeader(dst []byte, id uint64, n int) []byte {
	dst, start := begin(dst)
	dst = codec.AppendArray(dst, 2+publishFields)
	dst = codec.AppendUint(dst, uint64(KindPublish))
	dst = codec.AppendUint(dst, id)
	dst = codec.AppendStr(dst, m.Topic)
	dst = codec.AppendUint(dst, uint64(m.Partition))
	dst = codec.AppendUint(dst, m.Incarnation)
	dst = codec.AppendBin(dst, m.Producer[:])
	dst = codec.AppendUint(dst, m.Epoch)
	dst = codec.AppendUint(dst, m.Sequence)
	dst = codec.AppendUint(dst, uint64(m.Count))
	dst = codec.AppendBinHeader(dst, n)
	return end(dst, start, n)
}

// AppendFrame implements Message.
func (m *Publish) AppendFrame(dst []byte, id uint64) []byte {
	return append(m.AppendHeader(dst, id, len(m.Records)), m.Records...)
}

// DecodePublish decodes into m without allocating, except for a topic that differs from the one
// in m: reuse m. Records is a slice of body.
func DecodePublish(body []byte, m *Publish) (uint64, error) {
	c, id, fields := openHot(body, KindPublish)
	m.read(&c, fields)
	return id, closeHot(&c, KindPublish)
}

func (m *Publish) read(c *codec.Cursor, fields int) {
	knownFields(c, fields, publishFields)
	c.StrInto(&m.Topic, topic.MaxBytes)
	m.Partition = uint32(c.UintMax(math.MaxUint32))
	m.Incarnation = c.Uint()
	c.Fixed(m.Producer[:])
	m.Epoch = c.Uint()
	m.Sequence = c.Uint()
	m.Count = uint32(c.UintMax(math.MaxUint32))
	m.Records = c.Bin(math.MaxInt32)
	skipUnknown(c, fields, publishFields)
}

// AppendFrame implements Message.
func (m *Published) AppendFrame(dst []byte, id uint64) []byte {
	dst, start := begin(dst)
	dst = codec.AppendArray(dst, 2+publishedFields)
	dst = codec.AppendUint(dst, uint64(KindPublished))
	dst = codec.AppendUint(dst, id)
	dst = codec.AppendUint(dst, m.Incarnation)
	dst = codec.AppendInt(dst, m.Offset)
	dst = codec.AppendInt(dst, m.TimeMs)
	dst = codec.AppendBool(dst, m.Duplicate)
	dst = codec.AppendUint(dst, m.Applied)
	return end(dst, start, 0)
}

// DecodePublished decodes into m without allocating.
func DecodePublished(body []byte, m *Published) (uint64, error) {
	c, id, fields := openHot(body, KindPublished)
	m.read(&c, fields)
	return id, closeHot(&c, KindPublished)
}

func (m *Published) read(c *codec.Cursor, fields int) {
	knownFields(c, fields, publishedFields)
	m.Incarnation = c.Uint()
	m.Offset = c.Int()
	m.TimeMs = c.Int()
	m.Duplicate = c.Bool()
	m.Applied = c.Uint()
	skipUnknown(c, fields, publishedFields)
}

// AppendHeader appends the frame of m up to and without its batches of n bytes, which the
// caller sends behind it.
func (m *Deliver) AppendHeader(dst []byte, n int) []byte {
	dst, start := begin(dst)
	dst = codec.AppendArray(dst, 2+deliverFields)
	dst = codec.AppendUint(dst, uint64(KindDeliver))
	dst = codec.AppendUint(dst, 0)
	dst = codec.AppendUint(dst, m.Sub)
	dst = codec.AppendStr(dst, m.Topic)
	dst = codec.AppendUint(dst, uint64(m.Partition))
	dst = codec.AppendUint(dst, m.Incarnation)
	dst = codec.AppendInt(dst, m.Next)
	dst = codec.AppendInt(dst, m.End)
	dst = codec.AppendUint(dst, uint64(m.Records))
	dst = codec.AppendBinHeader(dst, n)
	return end(dst, start, n)
}

// AppendFrame implements Message; the id is always 0.
func (m *Deliver) AppendFrame(dst []byte, _ uint64) []byte {
	return append(m.AppendHeader(dst, len(m.Batches)), m.Batches...)
}

// DecodeDeliver decodes into m without allocating, except for a topic that differs from the one
// in m: reuse m. Batches is a slice of body.
func DecodeDeliver(body []byte, m *Deliver) (uint64, error) {
	c, id, fields := openHot(body, KindDeliver)
	m.read(&c, fields)
	return id, closeHot(&c, KindDeliver)
}

func (m *Deliver) read(c *codec.Cursor, fields int) {
	knownFields(c, fields, deliverFields)
	m.Sub = c.Uint()
	c.StrInto(&m.Topic, topic.MaxBytes)
	m.Partition = uint32(c.UintMax(math.MaxUint32))
	m.Incarnation = c.Uint()
	m.Next = c.Int()
	m.End = c.Int()
	m.Records = uint32(c.UintMax(math.MaxUint32))
	m.Batches = c.Bin(math.MaxInt32)
	skipUnknown(c, fields, deliverFields)
}

// AppendFrame implements Message.
func (m *Credit) AppendFrame(dst []byte, id uint64) []byte {
	dst, start := begin(dst)
	dst = codec.AppendArray(dst, 2+creditFields)
	dst = codec.AppendUint(dst, uint64(KindCredit))
	dst = codec.AppendUint(dst, id)
	dst = codec.AppendUint(dst, m.Sub)
	dst = codec.AppendUint(dst, m.Bytes)
	dst = codec.AppendUint(dst, m.Records)
	return end(dst, start, 0)
}

func (m *Credit) read(c *codec.Cursor, fields int) {
	knownFields(c, fields, creditFields)
	m.Sub = c.Uint()
	m.Bytes = c.Uint()
	m.Records = c.Uint()
	skipUnknown(c, fields, creditFields)
}

// openHot reads the head of a body that must be of one kind. The cursor is as strict as the
// scan for the fields it reads, and scans the ones it skips.
func openHot(body []byte, want Kind) (c codec.Cursor, id uint64, fields int) {
	c = codec.NewCursor(body)
	kind, id, fields := readHead(&c)
	if kind != want {
		c.Fail(codec.ErrType)
	}
	return c, id, fields
}

// closeHot is the outcome of reading a body.
func closeHot(c *codec.Cursor, kind Kind) error {
	if err := c.Err(); err != nil {
		return malformed(kind, err)
	}
	return nil
}
