package protocol_test

import (
	"fmt"
	"math"
	"reflect"

	"github.com/waxwing-mq/waxwing/protocol"
)

// fill says what stands in each number, text and list of a message.
type fill struct {
	name string
	uint func() uint64 // cut to the field's width
	int  func() int64
	text func() string
	len  int // of lists and blobs
	yes  bool
}

// fills are the messages of the golden vectors, three of each kind. The counter makes every field
// of "typical" different, so that two exchanged fields show.
func fills() []fill {
	n := 0
	count := func() int { n++; return n }
	return []fill{
		{"zero", func() uint64 { return 0 }, func() int64 { return 0 }, func() string { return "" }, 0, false},
		{"typical", func() uint64 { return uint64(count() * 40) }, func() int64 { return int64(count()) * 1_000_003 }, func() string { return fmt.Sprintf("text-%d.ü", count()) }, 3, true},
		{"extreme", func() uint64 { return math.MaxUint64 }, func() int64 { return math.MinInt64 }, func() string { return "\u0000\U0010FFFF" }, 1, true},
	}
}

// message fills every field of a message of kind k.
func (f fill) message(k protocol.Kind) protocol.Message {
	m := protocol.New(k)
	f.value(reflect.ValueOf(m).Elem())
	return m
}

func (f fill) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.field(v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		if f.len > 0 {
			v.Set(reflect.MakeSlice(v.Type(), f.len, f.len))
		} else if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{})
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			f.value(v.Index(i))
		}
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(f.yes)
	case reflect.Int64:
		v.SetInt(f.int())
	default:
		v.SetUint(f.uint() & (1<<v.Type().Bits() - 1))
	}
}

// field fills the fields whose range is narrower than their type.
func (f fill) field(name string, v reflect.Value) {
	f.value(v)
	if name == "MaxAgeMs" || name == "MaxBytes" || name == "MaxRecords" {
		v.SetUint(v.Uint() & math.MaxInt64)
	}
}

// sample is a typical message of kind k.
func sample(k protocol.Kind) protocol.Message { return fills()[1].message(k) }

// body is the frame of m without its length.
func body(m protocol.Message, id uint64) []byte { return m.AppendFrame(nil, id)[4:] }
