package snapshot_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/topic"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func sampleHead() *snapshot.Head {
	return &snapshot.Head{Cluster: "CLUSTER", Node: "n1", Program: "test", Index: 300, Term: 4, TimeMs: 1_790_000_000_000, Segments: []snapshot.Segment{
		{First: 1, Last: 3, From: 1, Index: 120, Records: 7, Bytes: 900},
		{First: 4, Last: 4, From: 121, Index: 300, Records: 2, Bytes: 80},
	}}
}

// sample is a stream with every kind of chunk; what is in them does not matter here.
func sample() []byte {
	var w snapshot.Writer
	b := w.Begin(nil, sampleHead())
	b = w.Chunk(b, snapshot.KindSegment, []byte("first"))
	b = w.Value(b, 7, 40, []byte("batches"))
	b = w.Value(b, 8, 0, bytes.Repeat([]byte{5}, 300))
	b = w.Chunk(b, snapshot.KindSegment, []byte("second"))
	b = w.Chunk(b, snapshot.KindState, []byte("state"))
	return w.End(b)
}

// read reads a stream to its end and describes its chunks.
func read(in io.Reader) (head *snapshot.Head, chunks []string, err error) {
	r, err := snapshot.NewReader(in)
	if err != nil {
		return nil, nil, err
	}
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Head(), append(chunks, r.Digest()), nil
		}
		if err != nil {
			return nil, nil, err
		}
		text := fmt.Sprintf("%d %s", c.Kind, c.Payload)
		if c.Kind == snapshot.KindValue {
			id, base, value, err := c.Value()
			if err != nil {
				return nil, nil, err
			}
			text = fmt.Sprintf("%d %d@%d %d", c.Kind, id, base, len(value))
		}
		chunks = append(chunks, text)
	}
}

// TestRoundTrip reads back what was written, in whatever pieces it comes, and holds the bytes to testdata/sample.hex: a change
// is a new version of the format.
func TestRoundTrip(t *testing.T) {
	b := sample()
	text := hex.EncodeToString(b) + "\n"
	const golden = "testdata/sample.hex"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != text {
		t.Errorf("the format changed: %v", err)
	}
	for name, in := range map[string]io.Reader{"whole": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b)), "with its end": iotest.DataErrReader(bytes.NewReader(b))} {
		head, chunks, err := read(in)
		if err != nil || cmp.Diff(head, sampleHead()) != "" {
			t.Fatalf("%s: %+v, %v", name, head, err)
		}
		if want := []string{"2 first", "3 7@40 7", "3 8@0 300", "2 second", "4 state"}; cmp.Diff(want, chunks[:len(chunks)-1]) != "" {
			t.Errorf("%s: %q", name, chunks)
		}
		if digest := chunks[len(chunks)-1]; digest != hex.EncodeToString(b[len(b)-32:]) {
			t.Errorf("%s: digest %s", name, digest)
		}
	}
	if records, size := sampleHead().Totals(); records != 9 || size != 980 {
		t.Errorf("totals %d, %d", records, size)
	}
}

// TestB02EveryDamage: every bit flipped, every length cut, bytes behind the end, chunks exchanged, doubled or left out, another
// kind of file, a newer version. Nothing is read as good.
func TestB02EveryDamage(t *testing.T) {
	good := sample()
	bad := func(what string, b []byte, want error) {
		t.Helper()
		if _, _, err := read(bytes.NewReader(b)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		_, _, err := read(bytes.NewReader(b))
		if !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, snapshot.ErrForeign) && !errors.Is(err, snapshot.ErrNewer) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
	for n := range good {
		want := snapshot.ErrDamaged
		if n == 0 {
			want = snapshot.ErrForeign
		}
		bad(fmt.Sprintf("cut at %d", n), good[:n], want)
	}
	bad("a byte behind the end", append(bytes.Clone(good), 0), snapshot.ErrDamaged)
	bad("itself behind the end", append(bytes.Clone(good), good...), snapshot.ErrDamaged)
	bad("an archive", append([]byte("PK\x03\x04"), good...), snapshot.ErrForeign)
	bad("text", []byte("waxsnap is no magic"), snapshot.ErrForeign)
	newer := bytes.Clone(good)
	newer[7] = snapshot.Version + 1
	bad("a newer version", newer, snapshot.ErrNewer)

	at := chunkStarts(good)
	part := func(i int) []byte { return good[at[i]:at[i+1]] }
	join := func(order ...int) (b []byte) {
		b = append(b, good[:8]...)
		for _, i := range order {
			b = append(b, part(i)...)
		}
		return b
	}
	if whole := join(0, 1, 2, 3, 4, 5, 6); !bytes.Equal(whole, good) {
		t.Fatal("the test takes the stream apart wrongly")
	}
	bad("chunks exchanged", join(0, 1, 3, 2, 4, 5, 6), snapshot.ErrDamaged)
	bad("a chunk twice", join(0, 1, 2, 2, 3, 4, 5, 6), snapshot.ErrDamaged)
	bad("a chunk left out", join(0, 1, 2, 4, 5, 6), snapshot.ErrDamaged)
	bad("without its end", join(0, 1, 2, 3, 4, 5), snapshot.ErrDamaged)
	bad("without its head", join(1, 2, 3, 4, 5, 6), snapshot.ErrDamaged)

	changed := bytes.Clone(good) // with a right crc: only the digest knows
	value := changed[at[2]:at[3]]
	value[len(value)-1]++
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	crc.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 2}, value[:5]...))
	crc.Write(value[9:])
	copy(value[5:], crc.Sum(nil))
	bad("a chunk changed, and its crc with it", changed, snapshot.ErrDamaged)
	if r, err := snapshot.NewReader(bytes.NewReader(changed)); err != nil {
		t.Error(err)
	} else if _, err := r.Next(); err != nil {
		t.Error(err)
	} else if _, err := r.Next(); err != nil {
		t.Errorf("the test does not know the crc: %v", err)
	}
}

// chunkStarts finds the chunks of a stream, and its end.
func chunkStarts(b []byte) (at []int) {
	for i := 8; i < len(b); {
		at = append(at, i)
		i += 9 + int(b[i+1])<<24 + int(b[i+2])<<16 + int(b[i+3])<<8 + int(b[i+4])
	}
	return append(at, len(b))
}

// TestHeads refuses heads that no writer makes.
func TestHeads(t *testing.T) {
	for name, spoil := range map[string]func(*snapshot.Head){
		"no segment":     func(h *snapshot.Head) { h.Segments = nil },
		"no cluster":     func(h *snapshot.Head) { h.Cluster = "" },
		"no node":        func(h *snapshot.Head) { h.Node = "" },
		"long name":      func(h *snapshot.Head) { h.Node = strings.Repeat("n", 129) },
		"another index":  func(h *snapshot.Head) { h.Index++ },
		"overlap":        func(h *snapshot.Head) { h.Segments[1].First = 3 },
		"backwards":      func(h *snapshot.Head) { h.Segments[0].First = 4 },
		"entries twice":  func(h *snapshot.Head) { h.Segments[1].From = 120 },
		"entries turned": func(h *snapshot.Head) { h.Segments[0].From = 121 },
	} {
		h := sampleHead()
		spoil(h)
		var w snapshot.Writer
		if _, _, err := read(bytes.NewReader(w.End(w.Begin(nil, h)))); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLyingLength: a chunk that says it is large takes no memory for what does not come.
func TestLyingLength(t *testing.T) {
	b := sample()[:8]
	b = append(b, 1, 0x03, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := read(bytes.NewReader(b)); !errors.Is(err, snapshot.ErrDamaged) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes were allocated for %d", got, len(b))
	}
}

// FuzzReader: no panic, bounded memory, and what is read as good is encoded to the same bytes again.
func FuzzReader(f *testing.F) {
	good := sample()
	seeds := [][]byte{good, good[:20], append(bytes.Clone(good), 1), nil}
	for range 8 {
		b := bytes.Clone(good)
		b[rand.IntN(len(b))] ^= 0x10
		seeds = append(seeds, b)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := snapshot.NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		var w snapshot.Writer
		again := w.Begin(nil, r.Head())
		for {
			c, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			if id, base, value, err := c.Value(); c.Kind == snapshot.KindValue && err == nil {
				again = w.Value(again, topic.PartitionID(id), base, value)
			} else {
				again = w.Chunk(again, c.Kind, c.Payload)
			}
		}
		if !bytes.Equal(w.End(again), b) {
			t.Error("what was read is encoded otherwise")
		}
	})
}
