package storage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// flipIn changes the bits of mask in one byte of a file of a segment, in place: whoever has it open or mapped sees it.
func flipIn(t testing.TB, dir, segment, file string, at int64, mask byte) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "segments", segment, file), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= mask
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

const (
	first  = "0000000001-0000000001"
	second = "0000000002-0000000002"
)

// running runs a log until stop.
func running(t *testing.T, o storage.Options) (l *storage.Log, stop func()) {
	t.Helper()
	l, err := storage.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	place(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return l, func() {
		t.Helper()
		cancel()
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestScrubSchedule: each sealed segment is read again once an interval, damage is found and said once, and a restart
// neither begins anew nor forgets.
func TestScrubSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		sealedDir(t, dir)
		var said bytes.Buffer
		o := storage.Options{Dir: dir, TailBytes: 1, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))}
		l, stop := running(t, o)
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		if st := l.ScrubStatus(); st.Due != 0 || st.Sealed != 2 || time.Since(st.Oldest) != 20*time.Hour {
			t.Errorf("after 20 hours: %+v", st)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if st := l.ScrubStatus(); st.Due != 0 || time.Since(st.Oldest) > time.Hour+time.Minute || l.Damage() != nil {
			t.Errorf("after 25 hours: %+v, %v", st, l.Damage())
		}
		stop()

		for range 3 { // runs that are too short for an interval, together longer than one
			l, stop = running(t, o)
			time.Sleep(7 * time.Hour)
			synctest.Wait()
			if st := l.ScrubStatus(); time.Since(st.Oldest) > 23*time.Hour {
				t.Errorf("between restarts: %+v", st)
			}
			stop()
		}
		flipIn(t, dir, first, "000001.vlog", 60_000, 1)
		l, stop = running(t, o)
		if said.Len() > 0 || l.Damage() != nil {
			t.Errorf("before anything was read: %s", said.String())
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if err := l.Damage(); err == nil || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), "restore the data folder from a backup") {
			t.Errorf("damage: %v", err)
		}
		if n := strings.Count(said.String(), "segment="+first); n != 1 {
			t.Errorf("said %d times:\n%s", n, said.String())
		}
		stop()

		l, stop = running(t, o)
		if st := l.Status(); l.Damage() == nil || st[0].Fault == "" || st[1].Fault != "" {
			t.Errorf("forgotten over a restart: %+v", st)
		}
		flipIn(t, dir, first, "000001.vlog", 60_000, 1) // the disk comes to its senses
		l.Scrub()
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := l.ScrubStatus(); l.Damage() != nil || st.Due != 0 || st.Damaged != 0 || st.Segment != "" {
			t.Errorf("after a pass: %v, %+v", l.Damage(), st)
		}
		stop()
	})
}

// TestScrubRate: a pass is held to its rate, can be watched, and is stopped in the middle.
func TestScrubRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		sealedDir(t, dir) // 1.3 MB each
		l, stop := running(t, storage.Options{Dir: dir, TailBytes: 1, ScrubBytesPerSecond: storage.ScrubBytesPerSecondMin})
		l.Scrub()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		var bytes int64
		for _, s := range l.Status()[:2] {
			for _, f := range s.Files {
				if filepath.Ext(f.Name) == ".vlog" {
					bytes += f.Size
				}
			}
		}
		began := time.Now()
		for l.ScrubStatus().Due > 0 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		took, least := time.Since(began), time.Duration(bytes-2<<20)*time.Second/storage.ScrubBytesPerSecondMin
		if took < least || took > least+3*time.Second {
			t.Errorf("%d bytes took %v, want about %v", bytes, took, least)
		}
		l.Scrub()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if st := l.ScrubStatus(); st.Segment == "" || st.Due == 0 || st.DueBytes == 0 {
			t.Errorf("in a pass: %+v", st)
		}
		stop() // in the middle of it: or the bubble would not end
	})
}

// TestD05FlipUnderReaders flips bits in files that are open and mapped: reads of what is damaged are CORRUPT, everything
// else stays right, and the segment is known to be damaged at once.
func TestD05FlipUnderReaders(t *testing.T) {
	dir := t.TempDir()
	want := sealedDir(t, dir)
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	place(t, l)
	for p := range want {
		if got, err := readAll(l, p, 0); err != nil || !bytes.Equal(got, want[p]) {
			t.Fatalf("partition %d: %v", p, err)
		}
	}
	flipIn(t, dir, second, "000001.vlog", 500_000, 0x10) // in a record of partition 3
	got, err := readAll(l, 3, 0)
	if !errors.Is(err, storage.ErrCorrupt) || !bytes.HasPrefix(want[3], got) {
		t.Errorf("read of what is damaged: %d bytes, %v", len(got), err)
	}
	if st := l.Status(); st[1].Fault == "" || st[0].Fault != "" {
		t.Errorf("a read met damage, the status does not know: %+v", st)
	}
	if got, err := readAll(l, 1, 0); err != nil || !bytes.Equal(got, want[1]) {
		t.Errorf("what is whole in the same segment: %v", err)
	}
	table, err := filepath.Glob(filepath.Join(dir, "segments", first, "*.sst"))
	if err != nil || len(table) == 0 {
		t.Fatal(err)
	}
	flipIn(t, dir, first, filepath.Base(table[0]), 100, 1)
	st, err := l.VerifySegment(t.Context(), first, 0)
	if err != nil || !strings.Contains(st.Fault, "CRC-32C of "+filepath.Base(table[0])) {
		t.Errorf("verify: %+v, %v", st, err)
	}
}

// TestVerifySegment: by name; one that is not sealed is only described; one that is not there is an error; ctx ends it.
func TestVerifySegment(t *testing.T) {
	dir := t.TempDir()
	sealedDir(t, dir)
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	before := time.Now()
	st, err := l.VerifySegment(t.Context(), first, 0)
	if err != nil || st.Fault != "" || st.State != storage.StateSealed || st.Checked.Before(before.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err := l.VerifySegment(t.Context(), "0000000003-0000000003", 0); err != nil || st.State != storage.StateActive || !st.Checked.IsZero() {
		t.Errorf("active: %+v, %v", st, err)
	}
	if _, err := l.VerifySegment(t.Context(), "0000000009-0000000009", 0); !errors.Is(err, storage.ErrNoSegment) {
		t.Errorf("no such segment: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.VerifySegment(ctx, first, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDamagedStays: a damaged segment is not merged, however dead it is, and its neighbours are; once nothing in it can
// be read it may go.
func TestDamagedStays(t *testing.T) {
	dir := t.TempDir()
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	segmentsOf(t, l, 5, 10, 1000, 1)
	flipIn(t, dir, second, "000001.vlog", 5000, 1)
	if _, err := l.VerifySegment(t.Context(), second, 0); err != nil || l.Damage() == nil {
		t.Fatalf("%v, %v", err, l.Damage())
	}
	perSegment := l.Status()[0].Extents[0].Next
	l.Trim(1, 2*perSegment-2)
	if err := l.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := l.Status(); st[0].Name != second || st[0].Fault == "" {
		t.Errorf("after tidying: %+v", st[0])
	}
	l.Trim(1, 2*perSegment)
	if err := l.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := l.Status(); st[0].Name == second || l.Damage() != nil {
		t.Errorf("nothing in it can be read, and it is still there: %+v", st[0])
	}
}

// TestFindingsFile: whatever is wrong with SCRUB costs a check, and nothing else.
func TestFindingsFile(t *testing.T) {
	dir := t.TempDir()
	want := sealedDir(t, dir)
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	if _, err := l.VerifySegment(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "SCRUB"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if storage.FindingsParse(bad) == nil {
			t.Fatalf("bit %d of SCRUB is not noticed", i)
		}
	}
	l.Close()
	if err := os.WriteFile(filepath.Join(dir, "SCRUB"), good[:len(good)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, storage.Options{Dir: dir, TailBytes: 1})
	place(t, l)
	if got, err := readAll(l, topic.PartitionID(1), 0); err != nil || !bytes.Equal(got, want[1]) || l.Damage() != nil {
		t.Errorf("%v, %v", err, l.Damage())
	}
}
