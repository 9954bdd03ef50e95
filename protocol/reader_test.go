package protocol_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/protocol"
)

// session is a stream of every kind and of every way a frame can lie in memory.
func session() (stream []byte, frames [][]byte) {
	ms := []protocol.Message{}
	for _, k := range protocol.Kinds() {
		ms = append(ms, sample(k))
	}
	for _, n := range []int{0, 100, 4000, 4096 - 64, 5000, 70_000} {
		ms = append(ms, &protocol.Publish{Topic: "t", Records: bytes.Repeat([]byte{1}, n)})
	}
	for i, m := range ms {
		f := m.AppendFrame(nil, uint64(i))
		stream, frames = append(stream, f...), append(frames, f[4:])
	}
	return stream, frames
}

// read returns all frames of r and the error that ended it.
func read(r io.Reader, max int) (frames [][]byte, err error) {
	in := protocol.NewFrameReader(r, max)
	for {
		b, err := in.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, slices.Clone(b))
	}
}

// TestDribbleAndFlood is P-07: the same frames come out however the bytes arrive.
func TestDribbleAndFlood(t *testing.T) {
	stream, want := session()
	for name, r := range map[string]io.Reader{
		"at once":        bytes.NewReader(stream),
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(stream)),
		"half":           iotest.HalfReader(bytes.NewReader(stream)),
		"end with bytes": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		got, err := read(r, 1<<20)
		if err != io.EOF || !cmp.Equal(want, got) {
			t.Errorf("%s: %d frames of %d, %v", name, len(got), len(want), err)
		}
	}
}

// TestEdgeOfBuffer reads frames around the size of the idle buffer, where a body moves from
// one memory to the other.
func TestEdgeOfBuffer(t *testing.T) {
	for n := 4080; n <= 4110; n++ {
		var stream []byte
		var want [][]byte
		for i := range 3 {
			b := bytes.Repeat([]byte{byte(i + 1)}, n)
			stream = append(binary.BigEndian.AppendUint32(stream, uint32(n)), b...)
			want = append(want, b)
		}
		if got, err := read(bytes.NewReader(stream), n); err != io.EOF || !cmp.Equal(want, got) {
			t.Fatalf("%d bytes: %d frames, %v", n, len(got), err)
		}
	}
}

// TestCutStream is P-07: a stream cut at any byte gives the frames before it, and says whether it
// was cut inside one.
func TestCutStream(t *testing.T) {
	var stream []byte
	var ends []int
	for _, n := range []int{1, 10, 5000} {
		stream = (&protocol.Publish{Topic: "t", Records: make([]byte, n)}).AppendFrame(stream, 1)
		ends = append(ends, len(stream))
	}
	for n := range len(stream) + 1 {
		got, err := read(bytes.NewReader(stream[:n]), 1<<20)
		whole := 0
		for _, e := range ends {
			if e <= n {
				whole++
			}
		}
		want := io.ErrUnexpectedEOF
		if n == 0 || slices.Contains(ends, n) {
			want = io.EOF
		}
		if err != want || len(got) != whole {
			t.Fatalf("cut at %d: %d frames, %v; want %d, %v", n, len(got), err, whole, want)
		}
	}
	fault := errors.New("broken line")
	if _, err := read(io.MultiReader(bytes.NewReader(stream[:7]), iotest.ErrReader(fault)), 1<<20); err != fault {
		t.Errorf("a fault of the line: %v", err)
	}
}

// TestLengthLies is P-01: a length over the cap is refused before anything is allocated for it, one
// over the bytes that come costs no more than the cap.
func TestLengthLies(t *testing.T) {
	const most = 1 << 20
	for _, c := range []struct {
		name  string
		bytes uint32
		body  int
		check func(error) bool
	}{
		{"zero", 0, 0, func(err error) bool { return errors.Is(err, protocol.ErrMalformed) }},
		{"one over the cap", most + 1, most + 1, tooLarge},
		{"the largest", 1<<32 - 1, 100, tooLarge},
		{"sign bit", 1 << 31, 100, tooLarge},
		{"an HTTP request", binary.BigEndian.Uint32([]byte("GET ")), 100, tooLarge},
		{"more than comes", most, 100, func(err error) bool { return err == io.ErrUnexpectedEOF }},
		{"nothing comes", most, 0, func(err error) bool { return err == io.ErrUnexpectedEOF }},
		{"nothing comes, small", 100, 0, func(err error) bool { return err == io.ErrUnexpectedEOF }},
		{"the cap", most, most, func(err error) bool { return err == io.EOF }},
	} {
		in := append(binary.BigEndian.AppendUint32(nil, c.bytes), make([]byte, c.body)...)
		var err error
		got := allocated(func() { _, err = readOnly(bytes.NewReader(in), most) })
		if !c.check(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if limit := uint64(2 * most); got >= limit || tooLarge(err) && got > 64<<10 {
			t.Errorf("%s: %d bytes allocated", c.name, got)
		}
	}
}

func tooLarge(err error) bool {
	e, ok := errors.AsType[*protocol.FrameTooLargeError](err)
	return ok && e.Max == 1<<20 && e.Error() != ""
}

// readOnly counts frames without keeping them.
func readOnly(r io.Reader, max int) (n int, err error) {
	in := protocol.NewFrameReader(r, max)
	for ; ; n++ {
		if _, err := in.Next(); err != nil {
			return n, err
		}
	}
}

// TestReaderIsSmall checks what a reader holds while it waits, and that reading allocates nothing.
func TestReaderIsSmall(t *testing.T) {
	if got := allocated(func() { protocol.NewFrameReader(bytes.NewReader(nil), 1<<20) }); got > 5<<10 {
		t.Errorf("an idle reader holds %d bytes", got)
	}
	stream, frames := session()
	src := bytes.NewReader(stream)
	in := protocol.NewFrameReader(src, 1<<20)
	run := func() {
		src.Reset(stream)
		for range frames {
			if _, err := in.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if in.Buffered() != 0 {
			t.Fatal("bytes are left")
		}
		in.Release()
	}
	if got := testing.AllocsPerRun(20, run); got > 8 { // the pool may lose the memory of the large frames
		t.Errorf("%v allocations for %d frames", got, len(frames))
	}
}
