package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
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

// replicas are two logs with the same six segments, cut at the same entries.
type replicas struct {
	t     *testing.T
	dir   string // of own
	own   *storage.Log
	other *storage.Log
	want  []byte // of partition 1
	fail  bool   // own may fail
}

func newReplicas(t *testing.T) *replicas {
	r := &replicas{t: t, dir: t.TempDir()}
	r.start()
	r.other = open(t, storage.Options{TailBytes: 1, Replicated: true})
	r.want = bytes.Join(segmentsOf(t, r.own, 6, 10, 500, 1)[1], nil)
	segmentsOf(t, r.other, 6, 10, 500, 1)
	t.Cleanup(func() {
		if r.own != nil {
			_ = r.own.Close()
		}
	})
	return r
}

func (r *replicas) start() {
	r.t.Helper()
	var err error
	r.own, err = storage.Open(storage.Options{Dir: r.dir, TailBytes: 1, Replicated: true, Fail: func(err error) {
		if !r.fail {
			r.t.Errorf("fail-stop: %v", err)
		}
	}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// restart closes and opens the own log.
func (r *replicas) restart() {
	r.t.Helper()
	_ = r.own.Close()
	r.start()
	if err := r.own.Place(1, 0, 120); err != nil {
		r.t.Fatal(err)
	}
	r.own.FindHoles()
}

// damage flips a bit in the table of an own segment, and has it found.
func (r *replicas) damage(names ...string) {
	r.t.Helper()
	for _, name := range names {
		table, err := filepath.Glob(filepath.Join(r.dir, "segments", name, "*.sst"))
		if err != nil || len(table) != 1 {
			r.t.Fatal(table, err)
		}
		flipIn(r.t, r.dir, name, filepath.Base(table[0]), 100, 1)
		if st, err := r.own.VerifySegment(r.t.Context(), name, 0); err != nil || st.Fault == "" {
			r.t.Fatalf("%+v, %v", st, err)
		}
	}
}

// repair does what the other log can do for the own one, as far as there is no error.
func (r *replicas) repair() (done int, err error) {
	r.t.Helper()
	li, ok := r.other.Listing()
	if !ok {
		r.t.Fatal("nothing is sealed")
	}
	for _, repair := range r.own.Repairs(li) {
		if err := r.give(repair); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// give copies what a repair wants, and swaps.
func (r *replicas) give(repair *storage.Repair) error {
	r.t.Helper()
	var sealed [][]byte
	for _, w := range repair.Want() {
		text, err := fileOf(r.other, w.Name(), storage.SealedFile)
		if err != nil {
			return err
		}
		sealed = append(sealed, text)
	}
	if err := repair.Fits(sealed); err != nil {
		return err
	}
	for i, w := range repair.Want() {
		if repair.Has(w) {
			continue
		}
		if err := receive(r.t, repair.Receive(w), r.other, w.Name(), sealed[i]); err != nil {
			return err
		}
	}
	return repair.Swap()
}

// fileOf reads a file of a log's segment whole.
func fileOf(l *storage.Log, segment, name string) (all []byte, err error) {
	b := make([]byte, 1<<20)
	for {
		n, size, err := l.ReadFile(segment, name, int64(len(all)), b)
		if err != nil {
			return nil, err
		}
		if all = append(all, b[:n]...); int64(len(all)) == size {
			return all, nil
		}
	}
}

// receive copies a segment from a log.
func receive(t *testing.T, to *storage.Receiver, from *storage.Log, segment string, sealed []byte) error {
	defer to.Close()
	if err := to.Begin(sealed, true); err != nil {
		return err
	}
	for {
		name, offset, _, more := to.Next()
		if !more {
			return to.Finish(t.Context())
		}
		all, err := fileOf(from, segment, name)
		if err != nil {
			return err
		}
		if err := to.Write(t.Context(), name, offset, all[offset:]); err != nil {
			return err
		}
	}
}

// sealedNames are the names of the sealed segments.
func sealedNames(l *storage.Log) (list []string) {
	for _, s := range l.Status() {
		if s.State == storage.StateSealed {
			list = append(list, strings.ReplaceAll(s.Name, "000000000", ""))
		}
	}
	return list
}

// right reads everything, now and after a restart, and looks for what should be gone.
func (r *replicas) right(segments string) {
	r.t.Helper()
	for _, when := range []string{"", " after a restart"} {
		if when != "" {
			r.restart()
		}
		if got, err := readAll(r.own, 1, 0); err != nil || !bytes.Equal(got, r.want) {
			r.t.Errorf("%d bytes%s, %v; want %d", len(got), when, err, len(r.want))
		}
		if r.own.NeedsRepair() || r.own.Damage() != nil {
			r.t.Errorf("damage%s: %v", when, r.own.Damage())
		}
		if got := strings.Join(sealedNames(r.own), " "); segments != "" && got != segments {
			r.t.Errorf("segments%s: %s, want %s", when, got, segments)
		}
		if err := storage.Verify(r.t.Context(), r.dir, func(s storage.SegmentStatus) {
			if s.Fault != "" {
				r.t.Errorf("%+v%s", s, when)
			}
		}); err != nil {
			r.t.Error(err)
		}
		if err := r.own.ForgetRepairs(); err != nil {
			r.t.Error(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(r.dir, "segments"))
	if err != nil || len(left) != len(r.own.Status()) {
		r.t.Errorf("%d folders for %d segments, %v", len(left), len(r.own.Status()), err)
	}
	if away, err := os.ReadDir(filepath.Join(r.dir, "quarantine")); err == nil && len(away) > 0 {
		r.t.Errorf("in quarantine: %v", away)
	}
}

// TestRepairSame: a damaged segment is exchanged for the same one of the other log, also the newest.
func TestRepairSame(t *testing.T) {
	r := newReplicas(t)
	r.damage("0000000002-0000000002", "0000000006-0000000006")
	reader := readersOf(t, r.own)
	if n, err := r.repair(); n != 2 || err != nil {
		t.Fatalf("%d repairs, %v", n, err)
	}
	reader()
	r.right("1-1 2-2.1 3-3 4-4 5-5 6-6.1")
	if words := checkpointOf(t, r.own); !slices.Equal(words, []string{"state at", "600"}) {
		t.Errorf("checkpoint %q", words)
	}
	r.damage("0000000002-0000000002.1")
	if n, err := r.repair(); n != 1 || err != nil {
		t.Fatalf("again: %d repairs, %v", n, err)
	}
	r.right("1-1 2-2.2 3-3 4-4 5-5 6-6.1")
}

// readersOf reads segment 3 all the time until the end: nothing but what is right.
func readersOf(t *testing.T, l *storage.Log) (end func()) {
	stop, done := make(chan struct{}), make(chan error, 1)
	want, _, _, err := l.Read(1, 40, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if got, _, _, err := l.Read(1, 40, 1<<20, nil); err != nil || !bytes.Equal(got, want) {
				done <- fmt.Errorf("%d bytes: %w", len(got), err)
				return
			}
		}
	}()
	return func() {
		t.Helper()
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRepairMerged: the logs have merged in different ways. What covers the damaged cuts on the other one comes, and takes whole
// segments along.
func TestRepairMerged(t *testing.T) {
	for name, c := range map[string]struct {
		own, other [][2]uint64
		damaged    string
		want       string
	}{
		"the other merged":        {other: [][2]uint64{{1, 3}}, damaged: "0000000002-0000000002", want: "1-3 4-4 5-5 6-6"},
		"own is merged":           {own: [][2]uint64{{1, 3}}, damaged: "0000000001-0000000003", want: "1-1 2-2 3-3 4-4 5-5 6-6"},
		"both, the same":          {own: [][2]uint64{{1, 3}}, other: [][2]uint64{{1, 3}}, damaged: "0000000001-0000000003", want: "1-3.1 4-4 5-5 6-6"},
		"crossing":                {own: [][2]uint64{{1, 2}, {3, 4}}, other: [][2]uint64{{2, 3}}, damaged: "0000000003-0000000004", want: "1-1 2-3 4-4 5-5 6-6"},
		"the other wrote it anew": {other: [][2]uint64{{2, 2}}, damaged: "0000000002-0000000002", want: "1-1 2-2.1 3-3 4-4 5-5 6-6"},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "crossing" && name != "the other merged" {
				lane.Need(t, 2, "D-03")
			}
			r := newReplicas(t)
			for l, runs := range map[*storage.Log][][2]uint64{r.own: c.own, r.other: c.other} {
				for _, run := range runs {
					if err := l.MergeRun(t.Context(), run[0], run[1]); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.damage(c.damaged)
			if n, err := r.repair(); n != 1 || err != nil {
				t.Fatalf("%d repairs, %v", n, err)
			}
			r.right(c.want)
		})
	}
}

// TestRepairMissing: folders are gone, or set aside at the start. The holes are found, and filled.
func TestRepairMissing(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"no folder": os.RemoveAll,
		"no SEALED": func(dir string) error { return os.Remove(filepath.Join(dir, "SEALED")) },
		"SEALED":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "SEALED"), []byte("nothing"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if name != "SEALED" {
				lane.Need(t, 2, "D-03")
			}
			r := newReplicas(t)
			for _, n := range []string{"0000000002-0000000002", "0000000004-0000000004"} {
				if err := harm(filepath.Join(r.dir, "segments", n)); err != nil {
					t.Fatal(err)
				}
			}
			r.restart()
			if !r.own.NeedsRepair() || !errors.Is(r.own.Damage(), storage.ErrCorrupt) {
				t.Errorf("damage: %v", r.own.Damage())
			}
			if _, _, _, err := r.own.Read(1, 25, 1, nil); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("read of a missing record: %v", err)
			}
			listed := 0
			for _, s := range r.own.Status() {
				if s.State == storage.StateDamaged {
					listed++
				}
			}
			if want := map[string]int{"SEALED": 2}[name]; listed != want || r.own.ScrubStatus().Damaged != want {
				t.Errorf("%d are listed as damaged, want %d", listed, want)
			}
			if n, err := r.repair(); n != 2 || err != nil {
				t.Fatalf("%d repairs, %v", n, err)
			}
			r.right("1-1 2-2 3-3 4-4 5-5 6-6")
		})
	}
}

// TestRepairRefused: what does not belong to the same log, or lacks something, does not come in.
func TestRepairRefused(t *testing.T) {
	for name, c := range map[string]struct {
		other func(t *testing.T, l *storage.Log)
		want  error
	}{
		"other batches": {func(t *testing.T, l *storage.Log) { segmentsOf(t, l, 6, 10, 501, 1) }, storage.ErrDiffers},
		"other cuts": {func(t *testing.T, l *storage.Log) {
			for i := range 6 {
				fill(t, l, 1, 10, 500)
				n := uint64(i + 1) // the same records and state, cut an entry later
				if err := l.Cut(storage.Cut{Number: n, Point: storage.Point{Index: 100*n + 1, Term: 3, Meta: []byte("members")}, Checkpoint: chunks("state at", fmt.Sprint(100*n))}); err != nil {
					t.Fatal(err)
				}
				flush(t, l)
			}
		}, storage.ErrDiffers},
		"trimmed there": {func(t *testing.T, l *storage.Log) {
			segmentsOf(t, l, 6, 10, 500, 1)
			l.Trim(1, 35)
			if err := l.MergeRun(t.Context(), 2, 2); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrUnfit},
		"damaged there": {func(t *testing.T, l *storage.Log) {
			segmentsOf(t, l, 6, 10, 500, 1)
			s, err := l.Segment("0000000002-0000000002")
			if err != nil {
				t.Fatal(err)
			}
			flipIn(t, filepath.Dir(filepath.Dir(s.Dir)), s.Name, "000001.vlog", 3000, 1)
		}, storage.ErrOffered},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplicas(t)
			r.other = open(t, storage.Options{TailBytes: 1})
			c.other(t, r.other)
			r.damage("0000000002-0000000002")
			if n, err := r.repair(); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%d repairs, %v; want %v", n, err, c.want)
			}
			if !r.own.NeedsRepair() {
				t.Error("it is whole again")
			}
			if name == "trimmed there" { // and then here, too
				r.own.Trim(1, 35)
				if n, err := r.repair(); n != 1 || err != nil {
					t.Errorf("%d repairs, %v", n, err)
				}
			}
		})
	}
}

// TestRepairHeld: an open export does not lose whole segments to a repair. It takes the repaired ones.
func TestRepairHeld(t *testing.T) {
	r := newReplicas(t)
	if err := r.other.MergeRun(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	e := exported(t, r.own, 6)
	r.damage("0000000002-0000000002", "0000000004-0000000004")
	li, _ := r.other.Listing()
	repairs := r.own.Repairs(li)
	if err := r.give(repairs[0]); !errors.Is(err, storage.ErrLater) {
		t.Errorf("a segment that is being copied was taken away: %v", err)
	}
	if err := r.give(repairs[1]); err != nil {
		t.Error(err)
	}
	e.Close()
	if err := r.give(repairs[0]); err != nil {
		t.Error(err)
	}
	r.damage("0000000005-0000000005")
	e = exported(t, r.own, 6)
	if n, err := r.repair(); n != 1 || err != nil {
		t.Errorf("%d repairs, %v", n, err)
	}
	if _, _, err := verified(t, e); err != nil {
		t.Errorf("an export that was open before the repair: %v", err)
	}
	if _, err := io.Copy(io.Discard, e); err != nil {
		t.Error(err)
	}
	tidy(t, r.own)
	r.right("1-2 3-3 4-4.1 5-5.1 6-6")
}

// TestC03RepairSteps: an error, or an end, at each persistent step of a repair. The next start has everything but what was
// damaged or is missing, and the repair that follows is as if nothing had been.
func TestC03RepairSteps(t *testing.T) {
	steps := []string{"install.begin", "install.write", "install.sync", "install.seal", "repair.move", "repair.leave", "segment.unseal", "segment.delete"}
	for _, merged := range []string{"", "own", "crossing"} {
		for _, step := range steps {
			for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
				t.Run(fmt.Sprintf("%s/%s=%s", merged, step, action), func(t *testing.T) {
					if merged != "crossing" || step != "repair.move" || action != fault.ErrorDone {
						lane.Need(t, 2, "C-03")
					}
					r := newReplicas(t)
					damaged := "0000000002-0000000002"
					switch merged {
					case "own":
						damaged = "0000000001-0000000003"
						if err := r.own.MergeRun(t.Context(), 1, 3); err != nil {
							t.Fatal(err)
						}
					case "crossing":
						damaged = "0000000001-0000000002"
						if err := errors.Join(r.own.MergeRun(t.Context(), 1, 2), r.own.MergeRun(t.Context(), 3, 4), r.other.MergeRun(t.Context(), 2, 3)); err != nil {
							t.Fatal(err)
						}
					}
					r.damage(damaged)
					r.fail = true
					fault.Arm(step, action, 1)
					_, err := r.repair()
					fault.Disarm()
					if !errors.Is(err, fault.ErrInjected) {
						t.Fatalf("the fault was not met: %v", err)
					}
					if strings.HasPrefix(step, "install.") == errors.Is(err, storage.ErrFailed) {
						t.Errorf("%v", err)
					}
					r.fail = false
					r.restart()
					for at := range topic.Offset(120) {
						got, _, _, err := r.own.Read(1, at, 1, nil)
						if err != nil && !errors.Is(err, storage.ErrCorrupt) || err == nil && !bytes.Contains(r.want, got) {
							t.Errorf("record %d: %d bytes, %v", at, len(got), err)
						}
					}
					for _, s := range r.own.Status() {
						if _, err := r.own.VerifySegment(t.Context(), s.Name, 0); err != nil {
							t.Error(err)
						}
					}
					if _, err := r.repair(); err != nil {
						t.Fatal(err)
					}
					r.right("")
				})
			}
		}
	}
}

// TestInstallKeepsExport: an install beside an open export deletes what is being copied only once the export is closed.
func TestInstallKeepsExport(t *testing.T) {
	r := newReplicas(t)
	fill(t, r.other, 1, 10, 500)
	cut(t, r.other, 7, 700)
	flush(t, r.other)
	r.other.Trim(1, 35)
	if err := r.other.MergeRun(t.Context(), 1, 3); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.own.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	e := exported(t, r.own, 6)
	begun := make([]byte, 1000)
	if _, err := io.ReadFull(e, begun); err != nil {
		t.Fatal(err)
	}
	li, _ := r.other.Listing()
	lacking, err := r.own.Lacking(li)
	if err != nil || len(lacking) != 2 {
		t.Fatalf("%d are lacking, %v", len(lacking), err)
	}
	for _, w := range lacking {
		sealed, err := fileOf(r.other, w.Name(), storage.SealedFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := receive(t, r.own.Receive(w), r.other, w.Name(), sealed); err != nil {
			t.Fatal(err)
		}
	}
	err = r.own.Install(li, func(chunks iter.Seq2[[]byte, error]) ([]storage.Place, error) {
		for _, err := range chunks {
			if err != nil {
				return nil, err
			}
		}
		return []storage.Place{{Partition: 1, Low: 35, Next: 140}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(sealedNames(r.own), " "); got != "1-3 4-4 5-5 6-6 7-7" {
		t.Errorf("segments %s", got)
	}
	if c, _, err := verified(t, io.MultiReader(bytes.NewReader(begun), e)); err != nil || c == nil {
		t.Errorf("the export that was open before: %v", err)
	}
	e.Close()
	tidy(t, r.own)
	for _, name := range []string{"0000000001-0000000001", "0000000002-0000000002", "0000000003-0000000003"} {
		if _, err := os.Lstat(filepath.Join(r.dir, "segments", name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("segment %s is still there: %v", name, err)
		}
	}
	if got, err := readAll(r.own, 1, 120); err != nil || len(got) < 10*1000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
