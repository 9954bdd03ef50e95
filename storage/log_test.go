package storage_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// open opens a log without a writer; tests write with Flush.
func open(t testing.TB, o storage.Options) *storage.Log {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Fail == nil {
		o.Fail = func(err error) { t.Errorf("fail-stop: %v", err) }
	}
	l, err := storage.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// stored makes a stored batch of count records, with body bytes in each.
func stored(p topic.PartitionID, base topic.Offset, count int, timeMs int64, body int) storage.Batch {
	var records []byte
	for i := range count {
		records = batch.AppendRecord(records, &batch.Record{Body: bytes.Repeat([]byte{byte(base) + byte(i)}, body)})
	}
	m := batch.Meta{Partition: p, Base: base, Count: uint32(count), TimeMs: timeMs, Publisher: "spiffe://td/client/a"}
	return storage.Batch{Partition: p, Base: base, Count: uint32(count), TimeMs: timeMs, Raw: batch.Append(nil, &m, records)}
}

// fill appends batches of two records each and returns their bytes.
func fill(t testing.TB, l *storage.Log, p topic.PartitionID, batches, body int) [][]byte {
	t.Helper()
	var raw [][]byte
	for i := range batches {
		b := stored(p, l.End(p), 2, int64(i), body)
		raw = append(raw, b.Raw)
		if err := l.Append([]storage.Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

func flush(t testing.TB, l *storage.Log) {
	t.Helper()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestReadCrossesIntoTail reads a partition whose older half is only in Badger.
func TestReadCrossesIntoTail(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	want := fill(t, l, 7, 10, 300)
	flush(t, l)
	if got := l.TailBytes(); got != 0 {
		t.Errorf("%d bytes in memory after everything was written, limit 1", got)
	}
	want = append(want, fill(t, l, 7, 10, 300)...)
	var got []byte
	for next := topic.Offset(0); next < l.End(7); {
		var n uint32
		var err error
		before := next
		if got, next, n, err = l.Read(7, next, 1000, got); err != nil || next != before+topic.Offset(n) || n == 0 {
			t.Fatalf("read at %d: next %d, %d records, %v", before, next, n, err)
		}
	}
	if !bytes.Equal(got, slices.Concat(want...)) {
		t.Error("other bytes than were appended")
	}
}

// TestReadKeepsPrefix checks that Read appends, that one batch comes whatever maxBytes is, and that an
// error leaves the buffer alone.
func TestReadKeepsPrefix(t *testing.T) {
	for _, cold := range []bool{false, true} {
		l := open(t, storage.Options{TailBytes: 1})
		raw := fill(t, l, 1, 3, 100)
		if cold {
			flush(t, l)
		}
		out, next, n, err := l.Read(1, 3, 1, []byte("abc")) // the middle of the second batch
		if err != nil || next != 4 || n != 2 || !bytes.Equal(out, append([]byte("abc"), raw[1]...)) {
			t.Errorf("cold %v: next %d, %d records, %v", cold, next, n, err)
		}
		if out, next, n, err = l.Read(1, 6, 1, []byte("abc")); err != nil || next != 6 || n != 0 || string(out) != "abc" {
			t.Errorf("cold %v, at the end: %q, next %d, %d records, %v", cold, out, next, n, err)
		}
		if out, _, _, err = l.Read(1, 7, 1, []byte("abc")); !errors.Is(err, storage.ErrRange) || string(out) != "abc" {
			t.Errorf("cold %v, beyond the end: %q, %v", cold, out, err)
		}
	}
}

// TestValues checks how batches are laid together (DESIGN section 7).
func TestValues(t *testing.T) {
	l := open(t, storage.Options{})
	for range 400 { // two partitions take turns
		for p := topic.PartitionID(1); p <= 2; p++ {
			fill(t, l, p, 1, 1000)
		}
	}
	large := stored(1, l.End(1), 1, 0, 600<<10)
	if err := l.Append([]storage.Batch{large}); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1, 1, 10)
	flush(t, l)
	bases, sizes := l.Values(1)
	if len(sizes) != 6 || bases[0] != 0 {
		t.Fatalf("values at %v of %v bytes; want four full ones, the large batch, the small one", bases, sizes)
	}
	for i, size := range sizes[:3] {
		if size > 256<<10 || size < 250<<10 {
			t.Errorf("value %d has %d bytes", i, size)
		}
	}
	if extra := sizes[4] - len(large.Raw); extra < -100 || extra > 100 { // Badger's figure is near, not exact
		t.Errorf("the large batch shares a value: %v", sizes)
	}
}

// TestValueMemory writes more than the writer keeps memory for, with other bytes each time: what Badger has must not change
// when that memory is used again.
func TestValueMemory(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	var want []byte
	for range 3 {
		for range 80 { // 5 MiB, in values of one and of many batches
			for _, body := range []int{30 << 10, 500, 500} {
				want = append(want, bytes.Join(fill(t, l, 1, 1, body), nil)...)
			}
		}
		flush(t, l)
	}
	got, err := readAll(l, 1, 0)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
}

// TestDamage is what a reader gets when Badger gives back something else than was written.
func TestDamage(t *testing.T) {
	other := stored(2, 0, 2, 0, 100)
	behind := stored(1, 4, 2, 0, 100)
	for name, damage := range map[string]func(l *storage.Log, raw []byte) error{
		"bit":             func(l *storage.Log, raw []byte) error { raw[len(raw)/2] ^= 4; return l.SetValue(1, 0, raw) },
		"empty":           func(l *storage.Log, _ []byte) error { return l.SetValue(1, 0, nil) },
		"short":           func(l *storage.Log, raw []byte) error { return l.SetValue(1, 0, raw[:len(raw)-1]) },
		"other partition": func(l *storage.Log, _ []byte) error { return l.SetValue(1, 0, other.Raw) },
		"other offset":    func(l *storage.Log, _ []byte) error { return l.SetValue(1, 0, behind.Raw) },
		"hole":            func(l *storage.Log, _ []byte) error { return l.DeleteValue(1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, storage.Options{TailBytes: 1})
			raw := fill(t, l, 1, 1, 100)
			flush(t, l)
			fill(t, l, 1, 1, 100)
			flush(t, l)
			if err := damage(l, bytes.Clone(raw[0])); err != nil {
				t.Fatal(err)
			}
			for from := range topic.Offset(2) {
				out, next, n, err := l.Read(1, from, 1<<20, nil)
				if !errors.Is(err, storage.ErrCorrupt) || len(out) != 0 || next != from || n != 0 {
					t.Errorf("read at %d: %d bytes, next %d, %d records, %v; want ErrCorrupt", from, len(out), next, n, err)
				}
			}
			if _, err := l.OffsetAt(1, -1); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("offset by time: %v, want ErrCorrupt", err)
			}
		})
	}
}

// TestHoleBehindGoodValue reads up to a hole, and then meets it: nothing is skipped.
func TestHoleBehindGoodValue(t *testing.T) {
	l := open(t, storage.Options{TailBytes: 1})
	for range 3 {
		fill(t, l, 1, 1, 100)
		flush(t, l)
	}
	if err := l.DeleteValue(1, 2); err != nil {
		t.Fatal(err)
	}
	_, next, n, err := l.Read(1, 0, 1<<20, nil)
	if err != nil || next != 2 || n != 2 {
		t.Fatalf("before the hole: next %d, %d records, %v", next, n, err)
	}
	if _, _, _, err = l.Read(1, 2, 1<<20, nil); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("in the hole: %v, want ErrCorrupt", err)
	}
	if _, next, _, err = l.Read(1, 4, 1<<20, nil); err != nil || next != 6 {
		t.Errorf("behind the hole: next %d, %v", next, err)
	}
}

func TestAppendOutOfOrder(t *testing.T) {
	for name, b := range map[string]storage.Batch{
		"hole at the start": stored(2, 5, 1, 0, 1),
		"hole":              stored(1, 5, 1, 0, 1),
		"again":             stored(1, 0, 1, 0, 1),
		"no records":        stored(1, 4, 0, 0, 1),
	} {
		l := open(t, storage.Options{})
		fill(t, l, 1, 2, 10)
		if err := l.Append([]storage.Batch{b}); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

// TestOpenEmpties starts on the folder of an earlier run: nothing of it is trusted.
func TestOpenEmpties(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1, 5, 100)
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, storage.Options{Dir: dir, TailBytes: 1})
	if bases, _ := l.Values(1); len(bases) != 0 || l.End(1) != 0 {
		t.Errorf("found values at %v, end %d", bases, l.End(1))
	}
	for _, d := range []string{dir, filepath.Join(dir, "segments", "0000000001-0000000001")} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", d, info.Mode(), err)
		}
	}
}

func TestDrop(t *testing.T) {
	l := open(t, storage.Options{})
	fill(t, l, 1, 5, 100)
	woken := make(chan struct{}, 2)
	wake := func() { woken <- struct{}{} }
	if !l.Await(&storage.Waiter{Partition: 1, From: 10, Wake: wake}) || !l.Await(&storage.Waiter{Partition: 2, Wake: wake}) {
		t.Fatal("nothing to wait for")
	}
	for p := topic.PartitionID(1); p <= 3; p++ { // 2 never had a record, 3 was never heard of
		l.Drop(p)
		l.Drop(p)
		if _, _, _, err := l.Read(p, 4, 100, nil); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("read partition %d: %v, want ErrClosed", p, err)
		}
		if l.Await(&storage.Waiter{Partition: p, From: 10, Wake: wake}) {
			t.Errorf("waiting for partition %d, which will never grow", p)
		}
	}
	<-woken
	<-woken
	flush(t, l)
	fill(t, l, 4, 1, 10)
	flush(t, l)
}

func TestWaiters(t *testing.T) {
	l := open(t, storage.Options{})
	const many = 5000
	var told sync.WaitGroup
	waiters := make([]storage.Waiter, many)
	for i := range waiters {
		told.Add(1)
		waiters[i] = storage.Waiter{Partition: 1, From: 0, Wake: told.Done} // twice would panic
		if !l.Await(&waiters[i]) {
			t.Fatal("there is nothing yet")
		}
	}
	var cancelled int
	quiet := storage.Waiter{Partition: 1, Wake: func() { cancelled++ }}
	l.Await(&quiet)
	l.Cancel(&quiet)
	l.Cancel(&quiet)
	fill(t, l, 1, 2, 10)
	told.Wait()
	if cancelled != 0 {
		t.Error("a cancelled waiter was told")
	}
	if l.Await(&waiters[0]) {
		t.Error("registered for a record that is there")
	}
	waiters[0].From = 4
	told.Add(1)
	if !l.Await(&waiters[0]) {
		t.Error("not registered for the next record")
	}
	fill(t, l, 1, 1, 10)
	told.Wait()
}

func TestOffsetAt(t *testing.T) {
	for _, layout := range []struct{ stored, tail int }{{0, 10}, {10, 0}, {4, 6}, {7, 3}} {
		l := open(t, storage.Options{TailBytes: 1})
		add := func(from, n int) {
			for i := from; i < from+n; i++ { // two batches share each time: 0 0 10 10 20 ...
				if err := l.Append([]storage.Batch{stored(1, topic.Offset(3*i), 3, int64(i/2*10), 50)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		add(0, layout.stored)
		flush(t, l)
		add(layout.stored, layout.tail)
		for at, want := range map[int64]topic.Offset{-5: 0, 0: 0, 1: 6, 10: 6, 11: 12, 20: 12, 39: 24, 40: 24, 41: 30, 1000: 30} {
			if got, err := l.OffsetAt(1, at); err != nil || got != want {
				t.Errorf("%+v: offset at %d is %d, %v; want %d", layout, at, got, err, want)
			}
		}
	}
}

// TestSegmentOptions holds the table of DESIGN section 7 against the code.
func TestSegmentOptions(t *testing.T) {
	o := storage.SegmentOptions("x")
	for name, ok := range map[string]bool{
		"SyncWrites": !o.SyncWrites, "DetectConflicts": !o.DetectConflicts, "NumVersionsToKeep": o.NumVersionsToKeep == 1,
		"Compression": o.Compression == 0, "ValueThreshold": o.ValueThreshold == 1024, "MemTableSize": o.MemTableSize == 8<<20,
		"NumMemtables": o.NumMemtables == 2, "NumCompactors": o.NumCompactors == 0, "NumLevelZeroTables": o.NumLevelZeroTables == 100_000,
		"NumLevelZeroTablesStall": o.NumLevelZeroTablesStall == 200_000, "CompactL0OnClose": !o.CompactL0OnClose,
		"ValueLogFileSize": o.ValueLogFileSize == 320<<20, "ValueLogMaxEntries": o.ValueLogMaxEntries == 1<<31,
		"caches": o.BlockCacheSize == 0 && o.IndexCacheSize == 0, "MetricsEnabled": !o.MetricsEnabled, "ChecksumVerificationMode": o.ChecksumVerificationMode == 1,
	} {
		if !ok {
			t.Errorf("%s is not what was measured", name)
		}
	}
}
