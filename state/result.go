package state

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// A result, on its way from the leader to the node that forwarded the command:
//
//	+---------+------------------------------------------------------------------+
//	| version | msgpack array of 8: status, created, offset, time, incarnation,  |
//	| 0x01    | version, text, topic: an array of 0 (none) or of a topic's fields |
//	+---------+------------------------------------------------------------------+
const (
	resultVersion   = 1
	resultFields    = 8
	resultTextBytes = 4 << 10 // words for people: a longer text is cut
)

// ResultBytesMax is the most that AppendResult adds.
const ResultBytesMax = 64 << 10

// AppendResult encodes r.
func AppendResult(dst []byte, r *Result) []byte {
	dst = codec.AppendArray(append(dst, resultVersion), resultFields)
	dst = codec.AppendUint(dst, uint64(r.Status))
	dst = codec.AppendBool(dst, r.Created)
	dst = codec.AppendInt(dst, int64(r.Offset))
	dst = codec.AppendInt(dst, r.TimeMs)
	dst = codec.AppendUint(dst, uint64(r.Incarnation))
	dst = codec.AppendUint(dst, r.Version)
	dst = codec.AppendStr(dst, cutText(r.Text, resultTextBytes))
	if r.Topic == nil {
		return codec.AppendArray(dst, 0)
	}
	return appendTopicItem(dst, r.Topic)
}

// DecodeResult decodes what AppendResult wrote; the result shares no memory with b. Errors wrap ErrMalformed or ErrVersion.
func DecodeResult(b []byte) (Result, error) {
	switch {
	case len(b) == 0:
		return Result{}, fmt.Errorf("%w: an empty result", ErrMalformed)
	case b[0] != resultVersion:
		return Result{}, versionError("result", b[0])
	}
	c := codec.NewCursor(b[1:])
	fieldsOf(&c, resultFields)
	r := Result{Status: Status(c.UintMax(255)), Created: c.Bool(), Offset: topic.Offset(c.Int()), TimeMs: c.Int(),
		Incarnation: topic.Incarnation(c.Uint()), Version: c.Uint(), Text: string(c.Str(resultTextBytes))}
	switch n := c.Array(topicItemFields); n {
	case 0:
	case topicItemFields:
		r.Topic = readTopic(&c, Limits{}.withDefaults().TopicPartitions)
	default:
		c.Fail(codec.ErrCount)
	}
	if err := c.Err(); err != nil {
		return Result{}, fmt.Errorf("%w: result: %w", ErrMalformed, err)
	}
	if left := len(c.Rest()); left > 0 {
		return Result{}, fmt.Errorf("%w: result: %d bytes behind its fields", ErrMalformed, left)
	}
	return r, nil
}

// cutText keeps whole characters of at most most bytes together.
func cutText(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
