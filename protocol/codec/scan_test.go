package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// raw is the bytes of a hex text with spaces.
func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// accepted are values of the subset, one for each form and its smallest argument.
var accepted = []string{
	"c0", "c2", "c3",
	"00", "7f", "cc80", "ccff", "cd0100", "ce00010000", "cf0000000100000000", "cfffffffffffffffff",
	"ff", "e0", "d0df", "d080", "d1ff7f", "d2ffff7fff", "d3ffffffff7fffffff",
	"ca3f800000", "cb3ff0000000000000",
	"a0", "a2c3bc", "d920" + strings.Repeat("61", 32), "da0100" + strings.Repeat("61", 256),
	"c400", "c402ff00", "c50100" + strings.Repeat("00", 256),
	"90", "93010203", "dc0010" + strings.Repeat("00", 16),
	"80", "81a16101", "82a161c0a162c0", "82a16181a161c0a162c0",
}

// refused are the faults of P-06, and the others.
var refused = []struct {
	name, bytes string
	want        error
}{
	{"nothing", "", codec.ErrShort},
	{"never used", "c1", codec.ErrType},
	{"trailing nil", "c0c0", codec.ErrTrailing},
	{"trailing behind array", "91 01 00", codec.ErrTrailing},
	{"duplicate key", "82 a161 c0 a161 c0", codec.ErrDuplicate},
	{"duplicate empty key", "82 a0 c0 a0 c0", codec.ErrDuplicate},
	{"duplicate key behind a nested map", "83 a161 81 a161 c0 a162 c0 a161 c0", codec.ErrDuplicate},
	{"duplicate key in a nested map", "81 a161 82 a162 c0 a162 c0", codec.ErrDuplicate},
	{"key is an integer", "81 01 c0", codec.ErrType},
	{"key is a bin", "81 c40161 c0", codec.ErrType},
	{"bad UTF-8", "a1ff", codec.ErrUTF8},
	{"bad UTF-8: surrogate", "a3eda080", codec.ErrUTF8},
	{"bad UTF-8: overlong", "a2c0af", codec.ErrUTF8},
	{"bad UTF-8: cut", "a1c3", codec.ErrUTF8},
	{"bad UTF-8 in a key", "81 a1ff c0", codec.ErrUTF8},
	{"uint8 of 7 bits", "cc7f", codec.ErrMinimal},
	{"uint16 of 8 bits", "cd00ff", codec.ErrMinimal},
	{"uint32 of 16 bits", "ce0000ffff", codec.ErrMinimal},
	{"uint64 of 32 bits", "cf00000000ffffffff", codec.ErrMinimal},
	{"int8 of 5 bits", "d0e0", codec.ErrMinimal},
	{"int8 not negative", "d001", codec.ErrMinimal},
	{"int16 of 8 bits", "d1ff80", codec.ErrMinimal},
	{"int32 of 16 bits", "d2ffff8000", codec.ErrMinimal},
	{"int64 of 32 bits", "d3ffffffff80000000", codec.ErrMinimal},
	{"int64 not negative", "d37fffffffffffffff", codec.ErrMinimal},
	{"str8 of 5 bits", "d90161", codec.ErrMinimal},
	{"str16 of 8 bits", "da000161", codec.ErrMinimal},
	{"str32 of 16 bits", "db0000000161", codec.ErrMinimal},
	{"bin16 of 8 bits", "c5000100", codec.ErrMinimal},
	{"bin32 of 16 bits", "c60000000100", codec.ErrMinimal},
	{"array16 of 4 bits", "dc000100", codec.ErrMinimal},
	{"array32 of 16 bits", "dd0000000100", codec.ErrMinimal},
	{"map16 of 4 bits", "de0001a161c0", codec.ErrMinimal},
	{"map32 of 16 bits", "df00000001a161c0", codec.ErrMinimal},
	{"fixext1", "d40100", codec.ErrExt},
	{"fixext16", "d801" + strings.Repeat("00", 16), codec.ErrExt},
	{"timestamp", "d6ff00000000", codec.ErrExt},
	{"ext8", "c7010100", codec.ErrExt},
	{"ext16", "c800010100", codec.ErrExt},
	{"ext32", "c90000000101ff", codec.ErrExt},
	{"ext in an array", "91 d40100", codec.ErrExt},
}

func TestScan(t *testing.T) {
	for _, s := range accepted {
		b := raw(t, s)
		if err := codec.Scan(b, codec.DepthMax); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		for n := range b { // P-07: cut at every byte
			if err := codec.Scan(b[:n], codec.DepthMax); err == nil {
				t.Errorf("%s: passes when cut at byte %d", s, n)
			}
		}
		if err := codec.Scan(append(b, 0xc0), codec.DepthMax); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%s and another byte: %v", s, err)
		}
	}
}

// TestFaults is P-06 on the level of encodings.
func TestFaults(t *testing.T) {
	for _, c := range refused {
		if err := codec.Scan(raw(t, c.bytes), codec.DepthMax); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLengthBombs is P-02: a few bytes that claim gigabytes, in every type and place, cost nothing.
func TestLengthBombs(t *testing.T) {
	heads := map[string]string{
		"str8": "d9ff", "str16": "daffff", "str32": "dbffffffff", "bin8": "c4ff", "bin16": "c5ffff", "bin32": "c6ffffffff",
		"fixarray": "9f", "array16": "dcffff", "array32": "ddffffffff", "fixmap": "8f", "map16": "deffff", "map32": "dfffffffff",
		"ext32": "c9ffffffff01", "array of arrays": "dc0010" + strings.Repeat("ddffffffff", 16),
	}
	for name, h := range heads {
		for place, b := range map[string][]byte{"alone": raw(t, h), "element": raw(t, "92 01"+h), "value": raw(t, "81 a161"+h)} {
			got := allocated(func() {
				if codec.Scan(b, codec.DepthMax) == nil {
					t.Errorf("%s, %s: accepted", name, place)
				}
				readAnything(b)
			})
			if got > 1<<16 {
				t.Errorf("%s, %s: %d bytes allocated", name, place, got)
			}
		}
	}
}

// readAnything tries each typed read of both readers on b, unscanned.
func readAnything(b []byte) {
	const most = 1 << 30
	for _, read := range []func(*codec.Cursor){
		func(c *codec.Cursor) { c.Str(most) }, func(c *codec.Cursor) { c.Bin(most) }, func(c *codec.Cursor) { c.Array(most) },
		func(c *codec.Cursor) { c.Map(most) }, func(c *codec.Cursor) { c.Skip() }, func(c *codec.Cursor) { c.StrInto(new(string), most) },
	} {
		c := codec.NewCursor(b)
		read(&c)
	}
	for _, read := range []func(*codec.Decoder){
		func(d *codec.Decoder) { d.Str(most) }, func(d *codec.Decoder) { d.Bin(most) }, func(d *codec.Decoder) { d.Array(most) },
	} {
		read(codec.NewDecoder(b))
	}
}

// TestNesting is P-03: depth 8 passes, 9 does not, and a million costs neither stack nor heap.
func TestNesting(t *testing.T) {
	for depth := range codec.DepthMax + 2 {
		b := append(bytes.Repeat([]byte{0x91}, depth), 0xc0)
		if err := codec.Scan(b, codec.DepthMax); (err == nil) != (depth <= codec.DepthMax) {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
	for name, unit := range map[string]string{"arrays": "91", "maps": "81a161", "wide arrays": "9201"} {
		for _, n := range []int{9, 1000, 1 << 20} {
			b := append(bytes.Repeat(raw(t, unit), n), 0xc0, 0xc0, 0xc0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := codec.Scan(b, codec.DepthMax)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, codec.ErrDepth) {
				t.Errorf("%s: depth %d: %v", name, n, err)
			}
			if after.TotalAlloc-before.TotalAlloc > 1<<16 || after.StackInuse > before.StackInuse+1<<20 {
				t.Errorf("%s: depth %d takes memory", name, n)
			}
		}
	}
}

// TestManyKeys bounds the work of finding duplicate keys.
func TestManyKeys(t *testing.T) {
	object := func(n int) []byte {
		b := codec.AppendMap(nil, n)
		for i := range n {
			b = codec.AppendNil(codec.AppendStr(b, string(rune('0'+i))))
		}
		return b
	}
	if err := codec.Scan(object(64), codec.DepthMax); err != nil {
		t.Errorf("64 keys: %v", err)
	}
	if err := codec.Scan(object(65), codec.DepthMax); !errors.Is(err, codec.ErrCount) {
		t.Errorf("65 keys: %v", err)
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	b := raw(t, "9a 10 cd0101 a96f72646572732e6575 00 c410"+strings.Repeat("07", 16)+"00 ce00010000 01 82a161c0a162c3 c403616263")
	if got := testing.AllocsPerRun(100, func() {
		if err := codec.Scan(b, codec.DepthMax); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkScanControl(b *testing.B) {
	in := raw(b, "9a 18 cd0101 01 91a96f72646572732e6575 00 00 ce00800000 cd03e8 90 00")
	for b.Loop() {
		if err := codec.Scan(in, codec.DepthMax); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScanWorst is the most work that a MiB can ask for: maps full of keys.
func BenchmarkScanWorst(b *testing.B) {
	object := codec.AppendMap(nil, 64)
	for i := range 64 {
		object = codec.AppendNil(codec.AppendStr(object, string([]byte{'a' + byte(i%26), 'a' + byte(i/26)})))
	}
	n := 1 << 20 / len(object)
	in := codec.AppendArray(nil, n)
	in = append(in, bytes.Repeat(object, n)...)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := codec.Scan(in, codec.DepthMax); err != nil {
			b.Fatal(err)
		}
	}
}
