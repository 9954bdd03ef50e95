package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// exported opens an export of everything up to cut n.
func exported(t testing.TB, l *storage.Log, n uint64) *storage.Export {
	t.Helper()
	e, err := l.Hold().Export(n, snapshot.Head{Cluster: "c", Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// verified reads a stream, and returns its state.
func verified(t testing.TB, in io.Reader) (contents *storage.SnapshotContents, state []string, err error) {
	t.Helper()
	r, err := snapshot.NewReader(in)
	if err != nil {
		return nil, nil, err
	}
	contents, err = storage.VerifySnapshot(t.Context(), r, func(chunks iter.Seq2[[]byte, error]) error {
		for c, err := range chunks {
			if err != nil {
				return err
			}
			state = append(state, string(c))
		}
		return nil
	})
	return contents, state, err
}

// exportedLog is a log of four segments, the first two merged, and a fifth that is being filled; and its stream up to cut 4.
func exportedLog(t testing.TB) (l *storage.Log, stream []byte) {
	t.Helper()
	l = open(t, storage.Options{TailBytes: 1})
	segmentsOf(t, l, 4, 10, 800, 1, 2, 3)
	l.Trim(1, 35)
	l.Trim(2, 30)
	tidy(t, l)
	fill(t, l, 2, 10, 100) // behind the cut
	stream, err := io.ReadAll(exported(t, l, 4))
	if err != nil {
		t.Fatal(err)
	}
	return l, stream
}

// TestExport: the stream holds what is sealed up to the cut, with the state of the cut and nothing behind it.
func TestExport(t *testing.T) {
	l, stream := exportedLog(t)
	contents, state, err := verified(t, bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(state) != "[state at 400]" {
		t.Errorf("state %q", state)
	}
	for p, r := range map[topic.PartitionID][2]topic.Offset{1: {35, 80}, 2: {30, 80}, 3: {0, 80}} {
		if err := contents.Covered(p, r[0], r[1]); err != nil {
			t.Error(err)
		}
		if err := contents.Covered(p, r[0], r[1]+1); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("partition %d, a record too few: %v", p, err)
		}
		if err := contents.Covered(p, r[0], r[1]-1); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("partition %d, a record too many: %v", p, err)
		}
	}
	if err := contents.Covered(1, 0, 80); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("records that were merged away count as there: %v", err)
	}
	if err := contents.Covered(9, 5, 5); err != nil {
		t.Errorf("an empty partition: %v", err)
	}
	again, err := io.ReadAll(exported(t, l, 4))
	if err != nil || !bytes.Equal(again, stream) {
		t.Errorf("a second export of the same cut differs: %d and %d bytes, %v", len(again), len(stream), err)
	}
	if _, err := l.Hold().Export(5, snapshot.Head{}); err == nil {
		t.Error("an export of a cut that is not sealed")
	}
}

// TestHoldKeepsSegments: what is in an export is neither deleted nor merged before it is closed; what comes later is.
func TestHoldKeepsSegments(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	segmentsOf(t, l, 4, 10, 800, 1, 2)
	before := fmt.Sprint(names(l))
	e := exported(t, l, 4)
	l.Trim(1, 80)
	l.Drop(2)
	tidy(t, l)
	if got := fmt.Sprint(names(l)); got != before {
		t.Errorf("segments %s, were %s", got, before)
	}
	for i := range 4 {
		fill(t, l, 3, 10, 100)
		cut(t, l, uint64(5+i), uint64(500+100*i))
		flush(t, l)
	}
	l.Trim(3, 80)
	tidy(t, l)
	if got := len(names(l)); got != 7 { // 4 that are held, the newest two, the active one
		t.Errorf("%d segments: %v", got, names(l))
	}
	if _, _, err := verified(t, e); err != nil {
		t.Error(err)
	}
	tidy(t, l)
	if got := len(names(l)); got != 3 {
		t.Errorf("%d segments once the export was read: %v", got, names(l))
	}
	h := l.Hold()
	l.Trim(1, 100)
	h.Release()
	h.Release()
}

// TestExportMeetsDamage: a segment that is damaged on the disk ends the stream with an error; what came of it is no
// snapshot.
func TestExportMeetsDamage(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	name := filepath.Join(dir, "segments", "0000000002-0000000002", "000001.vlog")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[20_000] ^= 4 // inside the batches of 100,000 bytes
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, storage.Options{Dir: dir})
	e := exported(t, l, 2)
	var stream bytes.Buffer
	if _, err := io.Copy(&stream, e); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("export of a damaged segment: %v", err)
	}
	if _, _, err := verified(t, &stream); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("what came of it: %v", err)
	}
}

// TestExportComparesDigests: a segment whose batches are all whole, but are not the ones that were sealed, is no part of a
// snapshot.
func TestExportComparesDigests(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	if err := storage.SpoilDigest(filepath.Join(dir, "segments", "0000000001-0000000001", "SEALED")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, exported(t, open(t, storage.Options{Dir: dir}), 2)); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("export: %v", err)
	}
}

// TestExportFaults: an error while reading ends the stream.
func TestExportFaults(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	segmentsOf(t, l, 2, 10, 800, 1)
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		for n := 1; n <= 6; n++ { // head, segment, values, segment, values with state, end
			fault.Arm("export.read", action, n)
			e := exported(t, l, 2)
			var stream bytes.Buffer
			_, err := io.Copy(&stream, e)
			fault.Disarm()
			e.Close()
			if n == 6 && action == fault.ErrorDone {
				continue // an end is no step that was done
			}
			if !errors.Is(err, fault.ErrInjected) {
				t.Errorf("%s at %d: %v", action, n, err)
			}
			if _, _, err := verified(t, &stream); err == nil {
				t.Errorf("%s at %d: what came is read as whole", action, n)
			}
		}
	}
}

// reencode copies a stream with right sums, and lets edit change, drop (nil) or double chunks.
func reencode(t testing.TB, stream []byte, edit func(n int, c snapshot.Chunk) []snapshot.Chunk) []byte {
	t.Helper()
	r, err := snapshot.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	var w snapshot.Writer
	out := w.Begin(nil, r.Head())
	for n := 0; ; n++ {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return w.End(out)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range edit(n, snapshot.Chunk{Kind: c.Kind, Payload: bytes.Clone(c.Payload)}) {
			out = w.Chunk(out, c.Kind, c.Payload)
		}
	}
}

// TestB02LyingStreams: files whose sums are right but whose contents are not: chunks of a segment that are missing, doubled,
// exchanged or changed.
func TestB02LyingStreams(t *testing.T) {
	_, stream := exportedLog(t)
	same := func(_ int, c snapshot.Chunk) []snapshot.Chunk { return []snapshot.Chunk{c} }
	if got := reencode(t, stream, same); !bytes.Equal(got, stream) {
		t.Fatal("a stream is not encoded again as it was")
	}
	var kinds []snapshot.Kind
	reencode(t, stream, func(_ int, c snapshot.Chunk) []snapshot.Chunk {
		kinds = append(kinds, c.Kind)
		return []snapshot.Chunk{c}
	})
	refused := func(what string, b []byte) {
		t.Helper()
		if _, _, err := verified(t, bytes.NewReader(b)); !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, storage.ErrNewer) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := range kinds {
		only := func(f func(c snapshot.Chunk) []snapshot.Chunk) []byte {
			return reencode(t, stream, func(n int, c snapshot.Chunk) []snapshot.Chunk {
				if n == at {
					return f(c)
				}
				return []snapshot.Chunk{c}
			})
		}
		what := fmt.Sprintf("chunk %d, of kind %d, ", at, kinds[at])
		refused(what+"is missing", only(func(snapshot.Chunk) []snapshot.Chunk { return nil }))
		refused(what+"is there twice", only(func(c snapshot.Chunk) []snapshot.Chunk { return []snapshot.Chunk{c, c} }))
		for _, bit := range []int{0, 13, 131, 1000} {
			refused(fmt.Sprintf("%shas bit %d turned", what, bit), only(func(c snapshot.Chunk) []snapshot.Chunk {
				bit := bit % (8 * len(c.Payload))
				c.Payload[bit/8] ^= 1 << (bit % 8)
				return []snapshot.Chunk{c}
			}))
		}
		refused(what+"is cut", only(func(c snapshot.Chunk) []snapshot.Chunk {
			c.Payload = c.Payload[:len(c.Payload)-1]
			return []snapshot.Chunk{c}
		}))
	}
}
