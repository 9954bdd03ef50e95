package protocol_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/protocol"
)

// FuzzDecode looks for a body of any kind that panics, takes more memory than its size excuses, or decodes to a
// message that does not come back (P-04, P-05).
func FuzzDecode(f *testing.F) {
	seeds := 0
	for _, fill := range fills() {
		for _, k := range protocol.Kinds() {
			f.Add(body(fill.message(k), uint64(k)))
			seeds++
		}
	}
	for _, c := range invalids {
		f.Add(raw(f, c.Body))
	}
	if seeds != 3*len(protocol.Kinds()) || seeds < 90 {
		f.Fatalf("%d seeds", seeds)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var id uint64
		var m protocol.Message
		var err error
		if got := allocated(func() { id, m, err = protocol.Decode(b) }); got > uint64(1<<20+200*len(b)) {
			t.Fatalf("%d bytes allocated for %d", got, len(b))
		}
		sameAsHot(t, b, m, err)
		if err != nil {
			return
		}
		if kind, peeked, err := protocol.Peek(b); kind != m.Kind() || peeked != id || err != nil {
			t.Fatalf("peek: %v %d %v", kind, peeked, err)
		}
		again := body(m, id)
		_, m2, err := protocol.Decode(again)
		if d := cmp.Diff(m, m2); err != nil || d != "" {
			t.Fatalf("%v does not come back: %v %s", m.Kind(), err, d)
		}
		if third := body(m2, id); !bytes.Equal(again, third) {
			t.Fatal("the encoding is not stable")
		}
	})
}

// sameAsHot checks that the decoders without a scan accept the same bodies and read the same.
func sameAsHot(t *testing.T, b []byte, m protocol.Message, err error) {
	t.Helper()
	var p protocol.Publish
	_, errP := protocol.DecodePublish(b, &p)
	var ed protocol.Published
	_, errEd := protocol.DecodePublished(b, &ed)
	var d protocol.Deliver
	_, errD := protocol.DecodeDeliver(b, &d)
	switch m := m.(type) {
	case *protocol.Publish:
		same(t, errP, m, &p)
	case *protocol.Published:
		same(t, errEd, m, &ed)
	case *protocol.Deliver:
		same(t, errD, m, &d)
	default:
		if errP == nil || errEd == nil || errD == nil {
			t.Fatalf("Decode refuses with %v what a hot decoder takes", err)
		}
	}
}

func same(t *testing.T, err error, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Fatalf("%v %s", err, d)
	}
}

// FuzzFrames looks for a stream that panics the reader or makes it take memory, or whose frames
// depend on how its bytes arrive.
func FuzzFrames(f *testing.F) {
	ping := (&protocol.Ping{Payload: 1}).AppendFrame(nil, 2)
	f.Add(bytes.Repeat(ping, 3), uint8(7))
	f.Add([]byte{0, 0, 0, 1, 0x90, 0, 0, 0, 0}, uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, uint8(1))
	const most = 64 << 10
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		want, err := read(bytes.NewReader(b), most)
		got, err2 := read(&stepReader{b, int(step) + 1}, most)
		if !cmp.Equal(want, got) || err.Error() != err2.Error() {
			t.Fatalf("at once %d frames, %v; in steps %d, %v", len(want), err, len(got), err2)
		}
	})
}

// stepReader gives n bytes at a time.
type stepReader struct {
	b []byte
	n int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.n, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}
