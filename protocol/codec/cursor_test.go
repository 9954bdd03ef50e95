package codec_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// TestFieldLimits checks that a field's own cap holds, and is checked before its bytes are.
func TestFieldLimits(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		read        func(*codec.Cursor)
		decode      func(*codec.Decoder)
		want        error
	}{
		{"str", "a3616263", func(c *codec.Cursor) { c.Str(2) }, func(d *codec.Decoder) { d.Str(2) }, codec.ErrCount},
		{"bin", "c403616263", func(c *codec.Cursor) { c.Bin(2) }, func(d *codec.Decoder) { d.Bin(2) }, codec.ErrCount},
		{"array", "93010203", func(c *codec.Cursor) { c.Array(2) }, func(d *codec.Decoder) { d.Array(2) }, codec.ErrCount},
		{"uint", "03", func(c *codec.Cursor) { c.UintMax(2) }, func(d *codec.Decoder) { d.Uint(2) }, codec.ErrRange},
		{"negative as uint", "ff", func(c *codec.Cursor) { c.Uint() }, func(d *codec.Decoder) { d.Uint(9) }, codec.ErrRange},
		{"large as int", "cfffffffffffffffff", func(c *codec.Cursor) { c.Int() }, func(d *codec.Decoder) { d.Int() }, codec.ErrRange},
		{"nil as str", "c0", func(c *codec.Cursor) { c.Str(2) }, func(d *codec.Decoder) { d.Str(2) }, codec.ErrType},
		{"nil as bin", "c0", func(c *codec.Cursor) { c.Bin(2) }, func(d *codec.Decoder) { d.Bin(2) }, codec.ErrType},
		{"nil as array", "c0", func(c *codec.Cursor) { c.Array(2) }, func(d *codec.Decoder) { d.Array(2) }, codec.ErrType},
		{"bin as str", "c40161", func(c *codec.Cursor) { c.Str(2) }, func(d *codec.Decoder) { d.Str(2) }, codec.ErrType},
		{"str as bin", "a161", func(c *codec.Cursor) { c.Bin(2) }, func(d *codec.Decoder) { d.Bin(2) }, codec.ErrType},
		{"int as bool", "01", func(c *codec.Cursor) { c.Bool() }, func(d *codec.Decoder) { d.Bool() }, codec.ErrType},
		{"float as int", "ca3f800000", func(c *codec.Cursor) { c.Int() }, func(d *codec.Decoder) { d.Int() }, codec.ErrType},
		{"lying bin", "c4ff61", func(c *codec.Cursor) { c.Bin(999) }, func(d *codec.Decoder) { d.Bin(999) }, codec.ErrShort},
		{"empty", "", func(c *codec.Cursor) { c.Uint() }, func(d *codec.Decoder) { d.Uint(9) }, codec.ErrShort},
	} {
		b := raw(t, c.bytes)
		cur, dec := codec.NewCursor(b), codec.NewDecoder(b)
		c.read(&cur)
		c.decode(dec)
		if !errors.Is(cur.Err(), c.want) || !errors.Is(dec.Err(), c.want) {
			t.Errorf("%s: cursor %v, decoder %v, want %v", c.name, cur.Err(), dec.Err(), c.want)
		}
	}
}

// TestFaultSticks checks that reads behind a fault return nothing.
func TestFaultSticks(t *testing.T) {
	b := raw(t, "c0 05 a161 c40162 c3 91 01 81a161 02")
	c, d := codec.NewCursor(b), codec.NewDecoder(b)
	c.Uint() // is a nil
	d.Uint(9)
	first := c.Err()
	c.Skip()
	d.Skip(1)
	dst := []byte{7}
	s := "kept"
	c.Fixed(dst)
	if c.Uint() != 0 || c.Int() != 0 || c.Bool() || c.Nil() || c.Str(9) != nil || c.Bin(9) != nil || c.Array(9) != 0 || c.Map(9) != 0 || c.More() || dst[0] != 7 || c.Off() != 0 {
		t.Error("the cursor goes on behind a fault")
	}
	if c.StrInto(&s, 9); s != "" {
		t.Error("an old string stays behind a fault")
	}
	if d.Uint(9) != 0 || d.Int() != 0 || d.Bool() || d.Str(9) != "" || d.Bin(9) != nil || d.Array(9) != 0 {
		t.Error("the decoder goes on behind a fault")
	}
	if c.Err() != first || d.Err() == nil {
		t.Error("another fault replaced the first")
	}
}

func TestFixed(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 15: false, 16: true, 17: false} {
		var dst [16]byte
		c := codec.NewCursor(codec.AppendBin(nil, make([]byte, n)))
		if c.Fixed(dst[:]); (c.Err() == nil) != ok {
			t.Errorf("%d bytes: %v", n, c.Err())
		}
	}
}

// TestSlices checks that what a cursor returns is its input and cannot be appended into it.
func TestSlices(t *testing.T) {
	b := raw(t, "c402 6162 a1 63")
	c := codec.NewCursor(b)
	bin := c.Bin(9)
	if &bin[0] != &b[2] || cap(bin) != 2 {
		t.Error("bin is copied, or reaches behind itself")
	}
}

func TestSkip(t *testing.T) {
	for _, s := range accepted {
		c := codec.NewCursor(append(raw(t, s), 0x07))
		if c.Skip(); c.Uint() != 7 || c.Err() != nil {
			t.Errorf("%s: %v", s, c.Err())
		}
	}
}

// TestEncoderRepairsText checks that the encoder never writes what a reader must refuse.
func TestEncoderRepairsText(t *testing.T) {
	got := codec.Encode(nil, func(e *codec.Encoder) { e.Str("a\xffb") })
	if err := codec.Scan(got, 1); err != nil || !strings.Contains(string(got), "a\uFFFDb") {
		t.Errorf("%x: %v", got, err)
	}
	if got := codec.Encode(nil, func(e *codec.Encoder) { e.Bin(nil) }); string(got) != "\xc4\x00" {
		t.Errorf("nil bytes: %x", got)
	}
}

// FuzzCursor runs any reads in any order over any bytes: no panic, no way back, nothing outside.
func FuzzCursor(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, raw(f, "94 05 a161 c40162 c3"))
	f.Add([]byte{4, 6, 7}, raw(f, "82 a161 c0 a162 90"))
	f.Add([]byte{8, 8, 8}, raw(f, "c1 dbffffffff"))
	f.Fuzz(func(t *testing.T, script, b []byte) {
		c := codec.NewCursor(b)
		reads := []func() int{
			func() int { c.Uint(); return 0 }, func() int { c.Int(); return 0 }, func() int { return len(c.Str(100)) },
			func() int { return len(c.Bin(math.MaxInt32)) }, func() int { return c.Map(50) }, func() int { return c.Array(50) },
			func() int { c.Bool(); return 0 }, func() int { c.Nil(); return 0 }, func() int { c.Skip(); return 0 },
		}
		for _, s := range script {
			before, failed := c.Off(), c.Err()
			n := reads[int(s)%len(reads)]()
			switch {
			case c.Off() < before || c.Off() > len(b) || n > len(b):
				t.Fatalf("from %d to %d of %d, %d read", before, c.Off(), len(b), n)
			case failed != nil && (c.Err() != failed || c.Off() != before):
				t.Fatal("a fault did not stick")
			case failed == nil && c.Err() != nil && c.Off() != before:
				t.Fatalf("a fault at %d moved to %d", before, c.Off())
			}
		}
	})
}
