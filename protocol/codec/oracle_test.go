package codec_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// tree reads any value of the subset with a Cursor into plain Go values: nil, bool, int64,
// uint64 (above int64), string, []byte, []any, map[string]any.
func tree(c *codec.Cursor) any {
	const most = math.MaxInt32
	next := c.Rest()
	if c.Err() != nil || len(next) == 0 {
		c.Fail(codec.ErrShort)
		return nil
	}
	switch b := next[0]; {
	case c.Nil():
		return nil
	case b == 0xc2, b == 0xc3:
		return c.Bool()
	case b >= 0xd9 && b <= 0xdb, b >= 0xa0 && b < 0xc0:
		return string(c.Str(most))
	case b >= 0xc4 && b <= 0xc6:
		return c.Bin(most)
	case b&0xf0 == 0x90, b == 0xdc, b == 0xdd:
		list := []any{}
		for range c.Array(most) {
			list = append(list, tree(c))
		}
		return list
	case b&0xf0 == 0x80, b == 0xde, b == 0xdf:
		object := map[string]any{}
		for range c.Map(most) {
			key := string(c.Str(most))
			object[key] = tree(c)
		}
		return object
	case b == 0xca, b == 0xcb:
		c.Skip()
		return "float"
	case b == 0xcf:
		return c.Uint()
	}
	return c.Int()
}

// library reads one value with msgpack/v5 into the same shapes.
func library(b []byte) (any, int, error) {
	in := bytes.NewReader(b)
	v, err := msgpack.NewDecoder(in).DecodeInterface()
	return plainValue(v), len(b) - in.Len(), err
}

// plainValue levels the library's types.
func plainValue(v any) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, plainValue(e))
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for k, e := range v {
			object[k] = plainValue(e)
		}
		return object
	case []byte:
		return append([]byte{}, v...)
	case float32, float64:
		return "float"
	case int8, int16, int32, int64:
		return reflect.ValueOf(v).Int()
	case uint8, uint16, uint32, uint64:
		return reflect.ValueOf(v).Uint()
	}
	return v
}

// level makes uint64 and int64 of one number equal.
func level(v any) string { return fmt.Sprintf("%#v", levelled(v)) }

func levelled(v any) any {
	switch v := v.(type) {
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = levelled(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = levelled(v[k])
		}
	case []byte:
		return fmt.Sprintf("bin %x", v)
	}
	return v
}

// agree is P-05: what we accept, the library reads as the same value of the same length.
func agree(t *testing.T, b []byte) {
	t.Helper()
	n, err := codec.ScanPrefix(b, codec.DepthMax)
	if err != nil {
		return
	}
	if (codec.Scan(b, codec.DepthMax) == nil) != (n == len(b)) {
		t.Fatalf("%x: Scan and ScanPrefix disagree", b)
	}
	c := codec.NewCursor(b)
	ours := tree(&c)
	if c.Err() != nil || c.Off() != n {
		t.Fatalf("%x: scan reads %d bytes, cursor %d: %v", b, n, c.Off(), c.Err())
	}
	theirs, m, err := library(b[:n])
	if err != nil || m != n {
		t.Fatalf("%x: the library reads %d bytes of %d: %v", b, m, n, err)
	}
	if level(ours) != level(theirs) {
		t.Fatalf("%x: we read %s, the library %s", b, level(ours), level(theirs))
	}
}

func TestAgreesWithLibrary(t *testing.T) {
	for _, s := range accepted {
		agree(t, raw(t, s))
	}
}

// FuzzScan looks for bytes that two parsers read differently (P-05), and for panics (P-04).
func FuzzScan(f *testing.F) {
	seeds := len(accepted) + len(refused)
	for _, s := range accepted {
		f.Add(raw(f, s))
	}
	for _, c := range refused {
		f.Add(raw(f, c.bytes))
	}
	if seeds < 60 {
		f.Fatal("the seeds are gone")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		agree(t, b)
		readAnything(b)
	})
}

// value is one write, done by both writers.
type value struct {
	name   string
	ours   func([]byte) []byte
	lib    func(*msgpack.Encoder) error
	pooled func(*codec.Encoder) // nil where control messages have no such value
}

func genValue() *rapid.Generator[value] {
	lengths := rapid.OneOf(rapid.IntRange(0, 40), rapid.SampledFrom([]int{31, 32, 255, 256, 65535, 65536}))
	return rapid.Custom(func(t *rapid.T) value {
		u, i := rapid.Uint64().Draw(t, "uint"), rapid.Int64().Draw(t, "int")
		u >>= rapid.IntRange(0, 63).Draw(t, "shift")
		i >>= rapid.IntRange(0, 63).Draw(t, "shift")
		n, yes := lengths.Draw(t, "length"), rapid.Bool().Draw(t, "bool")
		data := bytes.Repeat([]byte{'x'}, n)
		return rapid.SampledFrom([]value{
			{"uint", func(b []byte) []byte { return codec.AppendUint(b, u) }, func(e *msgpack.Encoder) error { return e.EncodeUint(u) }, func(e *codec.Encoder) { e.Uint(u) }},
			{"int", func(b []byte) []byte { return codec.AppendInt(b, i) }, func(e *msgpack.Encoder) error { return e.EncodeInt(i) }, func(e *codec.Encoder) { e.Int(i) }},
			{"str", func(b []byte) []byte { return codec.AppendStr(b, string(data)) }, func(e *msgpack.Encoder) error { return e.EncodeString(string(data)) }, func(e *codec.Encoder) { e.Str(string(data)) }},
			{"bin", func(b []byte) []byte { return codec.AppendBin(b, data) }, func(e *msgpack.Encoder) error { return e.EncodeBytes(data) }, func(e *codec.Encoder) { e.Bin(data) }},
			{"bool", func(b []byte) []byte { return codec.AppendBool(b, yes) }, func(e *msgpack.Encoder) error { return e.EncodeBool(yes) }, func(e *codec.Encoder) { e.Bool(yes) }},
			{"nil", codec.AppendNil, (*msgpack.Encoder).EncodeNil, nil},
			{"array", func(b []byte) []byte { return codec.AppendArray(b, n) }, func(e *msgpack.Encoder) error { return e.EncodeArrayLen(n) }, func(e *codec.Encoder) { e.Array(n) }},
			{"map", func(b []byte) []byte { return codec.AppendMap(b, n) }, func(e *msgpack.Encoder) error { return e.EncodeMapLen(n) }, nil},
		}).Draw(t, "value")
	})
}

// TestWritersAgree is the other half of P-05: our writer, the pooled encoder and the library write the same bytes.
func TestWritersAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := genValue().Draw(rt, "v")
		var want bytes.Buffer
		if err := v.lib(msgpack.NewEncoder(&want)); err != nil {
			rt.Fatal(err)
		}
		if got := v.ours(nil); !bytes.Equal(got, want.Bytes()) {
			rt.Fatalf("%s: we write %.40x, the library %.40x", v.name, got, want.Bytes())
		}
		if v.pooled == nil {
			return
		}
		if got := codec.Encode([]byte("before"), v.pooled); !bytes.Equal(got[6:], want.Bytes()) {
			rt.Fatalf("%s: the encoder writes %.40x, the library %.40x", v.name, got[6:], want.Bytes())
		}
	})
}

// TestReadersAgree reads each accepted value with the cursor and with the decoder, as every type.
func TestReadersAgree(t *testing.T) {
	const most = 1 << 20
	for _, s := range accepted {
		b := raw(t, s)
		for name, read := range map[string]func(*codec.Cursor, *codec.Decoder) (any, any){
			"uint":  func(c *codec.Cursor, d *codec.Decoder) (any, any) { return c.Uint(), d.Uint(math.MaxUint64) },
			"small": func(c *codec.Cursor, d *codec.Decoder) (any, any) { return c.UintMax(200), d.Uint(200) },
			"int":   func(c *codec.Cursor, d *codec.Decoder) (any, any) { return c.Int(), d.Int() },
			"bool":  func(c *codec.Cursor, d *codec.Decoder) (any, any) { return c.Bool(), d.Bool() },
			"str":   func(c *codec.Cursor, d *codec.Decoder) (any, any) { return string(c.Str(most)), d.Str(most) },
			"bin":   func(c *codec.Cursor, d *codec.Decoder) (any, any) { return string(c.Bin(most)), string(d.Bin(most)) },
			"array": func(c *codec.Cursor, d *codec.Decoder) (any, any) { return c.Array(most), d.Array(most) },
		} {
			c, d := codec.NewCursor(b), codec.NewDecoder(b)
			x, y := read(&c, d)
			if (c.Err() == nil) != (d.Err() == nil) || c.Err() == nil && !reflect.DeepEqual(x, y) {
				t.Errorf("%.20s as %s: cursor %v %v, decoder %v %v", s, name, x, c.Err(), y, d.Err())
			}
		}
	}
}
