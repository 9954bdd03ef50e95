package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// chunks is a checkpoint for tests.
func chunks(words ...string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, w := range words {
			if !yield([]byte(w)) {
				return
			}
		}
	}
}

// cut ends segment n behind an entry.
func cut(t testing.TB, l *storage.Log, n, index uint64) {
	t.Helper()
	c := storage.Cut{Number: n, Point: storage.Point{Index: index, Term: 3, Meta: []byte("members")}, Checkpoint: chunks("state at", fmt.Sprint(index))}
	if err := l.Cut(c); err != nil {
		t.Fatal(err)
	}
}

func checkpointOf(t testing.TB, l *storage.Log) (words []string) {
	t.Helper()
	for chunk, err := range l.Checkpoint() {
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, string(chunk))
	}
	return words
}

// readAll reads a partition from an offset on.
func readAll(l *storage.Log, p topic.PartitionID, from topic.Offset) (out []byte, err error) {
	for from < l.End(p) {
		var next topic.Offset
		if out, next, _, err = l.Read(p, from, 100_000, out); err != nil {
			return out, err
		}
		from = next
	}
	return out, nil
}

// sealedDir makes a log of two sealed segments, with records of partition 1 in both and of 2 and 3 in one, and
// closes it.
func sealedDir(t testing.TB, dir string) (want map[topic.PartitionID][]byte) {
	t.Helper()
	l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	want = map[topic.PartitionID][]byte{}
	add := func(p topic.PartitionID, n, body int) {
		want[p] = append(want[p], bytes.Join(fill(t, l, p, n, body), nil)...)
	}
	add(1, 30, 5000)
	add(2, 10, 300)
	cut(t, l, 1, 100)
	add(1, 20, 400)
	add(3, 5, 100_000)
	cut(t, l, 2, 200)
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// place tells a log opened on sealedDir where its partitions are.
func place(t testing.TB, l *storage.Log) {
	t.Helper()
	for p, next := range map[topic.PartitionID]topic.Offset{1: 100, 2: 20, 3: 10} {
		if err := l.Place(p, 0, next); err != nil {
			t.Fatal(err)
		}
		if err := l.Covered(p, 0, next); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSealedSurvivesRestart reads what was sealed after a restart, and goes on behind it.
func TestSealedSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	want := sealedDir(t, dir)
	var heads []storage.Head
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	l.OnSeal(func(h storage.Head) { heads = append(heads, h) })
	h, ok := l.Head()
	if !ok || h.Number != 2 || h.From != 101 || h.Point.Index != 200 || h.Point.Term != 3 || string(h.Point.Meta) != "members" {
		t.Errorf("head %+v, %t", h, ok)
	}
	if got := checkpointOf(t, l); !slices.Equal(got, []string{"state at", "200"}) {
		t.Errorf("checkpoint %q", got)
	}
	place(t, l)
	want[1] = append(want[1], bytes.Join(fill(t, l, 1, 3, 50), nil)...)
	cut(t, l, 3, 300)
	flush(t, l)
	if len(heads) != 1 || heads[0].Number != 3 || heads[0].From != 201 {
		t.Errorf("sealed: %+v", heads)
	}
	for p, w := range want {
		if got, err := readAll(l, p, 0); err != nil || !bytes.Equal(got, w) {
			t.Errorf("partition %d: %d bytes, want %d; %v", p, len(got), len(w), err)
		}
	}
	var states []storage.State
	for _, s := range l.Status() {
		states = append(states, s.State)
	}
	if !slices.Equal(states, []storage.State{storage.StateSealed, storage.StateSealed, storage.StateSealed, storage.StateActive}) {
		t.Errorf("states %v", states)
	}
}

// sealSteps are the persistent steps between a cut and a sealed segment.
var sealSteps = []string{"seal.checkpoint", "seal.close", "seal.sync", "seal.verify", "seal.manifest", "file.sync", "seal.rename", "seal.syncdir"}

// TestSealFaults fails each step. The log reports it once and seals nothing more; the next start has either the
// whole segment or none of it, and takes the records again.
func TestSealFaults(t *testing.T) {
	for _, step := range sealSteps {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
			t.Run(fmt.Sprintf("%s/%s", step, action), func(t *testing.T) {
				if step != "seal.verify" && step != "seal.rename" {
					lane.Need(t, 2, "C-05")
				}
				dir := t.TempDir()
				var failed []error
				l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1, Fail: func(err error) { failed = append(failed, err) }})
				if err != nil {
					t.Fatal(err)
				}
				want := bytes.Join(fill(t, l, 1, 10, 900), nil)
				cut(t, l, 1, 50)
				fault.Arm(step, action, 1)
				err = l.Flush()
				fault.Disarm()
				if !errors.Is(err, fault.ErrInjected) || len(failed) != 1 {
					t.Errorf("%v, reported %v", err, failed)
				}
				if _, ok := l.Head(); ok {
					t.Error("a failed seal became the head")
				}
				l.Close()

				l = open(t, storage.Options{Dir: dir, TailBytes: 1})
				if h, ok := l.Head(); ok {
					if step != "seal.rename" && step != "seal.syncdir" || h.Point.Index != 50 {
						t.Fatalf("head %+v although %s failed", h, step)
					}
					if err := l.Place(1, 0, 20); err != nil {
						t.Fatal(err)
					}
				} else {
					fill(t, l, 1, 10, 900)
					cut(t, l, 1, 50)
					flush(t, l)
				}
				if got, err := readAll(l, 1, 0); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, want %d; %v", len(got), len(want), err)
				}
			})
		}
	}
}

// TestDamagedFiles (D-03, D-04, small form) damages a sealed segment: whatever is read is right, or is an error.
func TestDamagedFiles(t *testing.T) {
	base := t.TempDir()
	want := sealedDir(t, base)
	var names []string
	for _, pattern := range []string{"*.vlog", "*.sst", "MANIFEST", "KEYREGISTRY", "SEALED"} {
		found, err := filepath.Glob(filepath.Join(base, "segments", "*", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		names = append(names, found...)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	detected := 0
	for i := range lane.Pick(40, 500, 3000) {
		name := names[i%len(names)]
		original, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		how, damaged := damage(r, original)
		dir := copyDir(t, base)
		relative, _ := filepath.Rel(base, name)
		if err := os.WriteFile(filepath.Join(dir, relative), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if !rightOrError(t, dir, want, fmt.Sprintf("%s: %s", relative, how)) {
			detected++
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d damages were detected, the others changed nothing that is read", detected)
	if detected == 0 {
		t.Error("nothing was detected")
	}
}

// damage changes a file at one place.
func damage(r *rand.Rand, b []byte) (how string, out []byte) {
	out = bytes.Clone(b)
	at := r.IntN(len(out))
	switch r.IntN(8) {
	case 0:
		return fmt.Sprintf("cut at %d of %d", at, len(b)), out[:at]
	case 1:
		end := min(at+512, len(out))
		clear(out[at:end])
		return fmt.Sprintf("zeros from %d to %d", at, end), out
	}
	bit := r.IntN(8)
	out[at] ^= 1 << bit
	return fmt.Sprintf("bit %d of byte %d of %d", bit, at, len(b)), out
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// rightOrError starts on a damaged folder and reads everything: it says whether all of it is there.
func rightOrError(t *testing.T, dir string, want map[topic.PartitionID][]byte, what string) (all bool) {
	t.Helper()
	l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
	if err != nil {
		return false
	}
	defer l.Close()
	all = true
	for _, err := range l.Checkpoint() {
		all = all && err == nil
	}
	for p, w := range want {
		next := map[topic.PartitionID]topic.Offset{1: 100, 2: 20, 3: 10}[p]
		if l.Place(p, 0, next) != nil || l.Covered(p, 0, next) != nil {
			all = false
			continue
		}
		got, err := readAll(l, p, 0)
		if !bytes.HasPrefix(w, got) || err == nil && len(got) != len(w) {
			t.Errorf("%s: partition %d read as something else (%d bytes, want %d; %v)", what, p, len(got), len(w), err)
		}
		all = all && err == nil
	}
	return all
}

// TestDamagedHeadIsSetAside: a SEALED that cannot be read is moved away, not deleted, and the segment before is the
// head again.
func TestDamagedHeadIsSetAside(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	name := filepath.Join(dir, "segments", "0000000002-0000000002")
	if err := os.WriteFile(filepath.Join(name, "SEALED"), []byte("\x01damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, storage.Options{Dir: dir})
	if h, ok := l.Head(); !ok || h.Number != 1 {
		t.Errorf("head %+v", h)
	}
	if _, err := os.Stat(filepath.Join(dir, "quarantine", filepath.Base(name), "SEALED")); err != nil {
		t.Error(err)
	}
}

// TestNewerFormat: a segment of a newer program is refused and left as it is.
func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	if err := storage.WriteNewerManifest(filepath.Join(dir, "segments", "0000000002-0000000002", "SEALED")); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	if _, err := storage.Open(storage.Options{Dir: dir}); !errors.Is(err, storage.ErrNewer) {
		t.Errorf("%v", err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder was changed:\n%s\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMissingSegment: a segment that is gone is a hole, and the place that misses it is named.
func TestMissingSegment(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "segments", "0000000001-0000000001")); err != nil {
		t.Fatal(err)
	}
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	if err := l.Place(1, 0, 100); err != nil {
		t.Fatal(err)
	}
	if err := l.Covered(1, 0, 100); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "records 0 to 59") {
		t.Errorf("covered: %v", err)
	}
	if _, _, _, err := l.Read(1, 0, 1, nil); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
	if err := l.Covered(1, 60, 100); err != nil {
		t.Errorf("what is behind the low offset may be gone: %v", err)
	}
}

// TestVerifyFolder reads a stopped log.
func TestVerifyFolder(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	look := func() (faults []string) {
		if err := storage.Verify(t.Context(), dir, func(s storage.SegmentStatus) { faults = append(faults, s.Name+" "+string(s.State)+" "+s.Fault) }); err != nil {
			t.Fatal(err)
		}
		return faults
	}
	want := []string{"0000000003-0000000003 unsealed ", "0000000001-0000000001 sealed ", "0000000002-0000000002 sealed "}
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	name := filepath.Join(dir, "segments", "0000000001-0000000001", "000001.vlog")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := look(); !strings.Contains(got[1], "damaged") {
		t.Errorf("a flipped bit was not found: %q", got)
	}
}
