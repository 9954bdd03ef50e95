package cluster_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/fault"
)

func openStore(t *testing.T, dir string, fail func(error)) cluster.Store {
	t.Helper()
	if fail == nil {
		fail = func(err error) { t.Errorf("fail-stop: %v", err) }
	}
	s, err := cluster.OpenStore(dir, fail)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entryAt(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/10, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index)}, 300), Extensions: []byte("own")[:index%4]}
}

func storeEntries(t *testing.T, s cluster.Store, from, to uint64) {
	t.Helper()
	var ls []*raft.Log
	for i := from; i <= to; i++ {
		ls = append(ls, entryAt(i))
	}
	if err := s.StoreLogs(ls); err != nil {
		t.Fatal(err)
	}
}

func checkEntries(t *testing.T, s cluster.Store, from, to uint64) {
	t.Helper()
	first, err := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err != nil || err2 != nil || first != from || last != to {
		t.Fatalf("log is %d..%d, %v, %v; want %d..%d", first, last, err, err2, from, to)
	}
	for i := from; i <= to; i++ {
		var got raft.Log
		if err := s.GetLog(i, &got); err != nil {
			t.Fatal(err)
		}
		want := entryAt(i)
		if got.Index != i || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) {
			t.Errorf("entry %d came back as %+v", i, got)
		}
	}
	for _, i := range []uint64{0, from - 1, to + 1} {
		if err := s.GetLog(i, new(raft.Log)); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares with ==
			t.Errorf("entry %d: %v, want raft.ErrLogNotFound itself", i, err)
		}
	}
}

// TestLogContract is R-09 for the log: order, not found, truncation at both ends, reopening.
func TestLogContract(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, nil)
	storeEntries(t, s, 1, 20)
	storeEntries(t, s, 21, 21)
	checkEntries(t, s, 1, 21)
	if err := s.DeleteRange(16, 21); err != nil {
		t.Fatal(err)
	}
	storeEntries(t, s, 16, 18)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, nil)
	checkEntries(t, s, 1, 18)
	if err := s.DeleteRange(1, 4); err != nil {
		t.Fatal(err)
	}
	checkEntries(t, s, 5, 18) // raft-wal still has 1..4 in its file
	if !s.IsMonotonic() {
		t.Error("not monotonic: raft would leave gaps")
	}
	cache, err := raft.NewLogCache(4, s)
	if err != nil || !cache.IsMonotonic() {
		t.Errorf("the cache hides that the log is monotonic, %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.OpenStore(dir, nil); !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("a log that begins at 5: %v, want ErrCorrupt", err)
	}
}

// TestHoleRefused is R-09: an append that leaves a hole fails, and ends all writing.
func TestHoleRefused(t *testing.T) {
	var failed error
	s := openStore(t, t.TempDir(), func(err error) { failed = err })
	defer s.Close()
	storeEntries(t, s, 1, 3)
	if err := s.StoreLog(entryAt(5)); err == nil || failed == nil {
		t.Errorf("hole: %v, fail-stop %v", err, failed)
	}
	if err := s.StoreLog(entryAt(4)); err == nil {
		t.Error("written after a failure")
	}
}

// TestStableContract is R-09 for votes and terms: each Set is there after a reopen, and a missing key reads
// as raft expects.
func TestStableContract(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, nil)
	if v, err := s.GetUint64([]byte("CurrentTerm")); v != 0 || err != nil && err.Error() != "not found" {
		t.Errorf("missing number: %d, %v", v, err)
	}
	if v, err := s.Get([]byte("LastVoteCand")); len(v) != 0 || err != nil && err.Error() != "not found" {
		t.Errorf("missing key: %q, %v", v, err)
	}
	for term := range uint64(5) {
		if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), term), s.Set([]byte("LastVoteCand"), []byte{'n', byte(term)})); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, nil)
	defer s.Close()
	term, err := s.GetUint64([]byte("CurrentTerm"))
	vote, err2 := s.Get([]byte("LastVoteCand"))
	if term != 4 || string(vote) != "n\x04" || err != nil || err2 != nil {
		t.Errorf("term %d, vote %q, %v, %v", term, vote, err, err2)
	}
}

// TestBitFlip flips one bit of an entry on disk: it is an error and fail-stop, never data.
func TestBitFlip(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, nil)
	for i := range uint64(9) {
		storeEntries(t, s, i+1, i+1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, entryAt(5).Data)
	var failed error
	s = openStore(t, dir, func(err error) { failed = err })
	defer s.Close()
	if err := s.GetLog(4, new(raft.Log)); err != nil || failed != nil {
		t.Errorf("the entry before: %v, %v", err, failed)
	}
	if err := s.GetLog(5, new(raft.Log)); !errors.Is(err, cluster.ErrCorrupt) || !errors.Is(failed, cluster.ErrCorrupt) {
		t.Errorf("damaged entry: %v, fail-stop %v; want ErrCorrupt", err, failed)
	}
}

// flip changes one bit in the middle of the bytes wanted, in whichever file of the log has them.
func flip(t *testing.T, dir string, wanted []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, wanted)
		if at < 0 {
			continue
		}
		data[at+len(wanted)/2] ^= 1
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("none of %v has the entry", files)
}

// TestStoreFaults is the fault table of the two writes of a running group: the first failure reports, and
// nothing is written after it.
func TestStoreFaults(t *testing.T) {
	steps := map[string]func(s cluster.Store) error{
		"raft.append": func(s cluster.Store) error { return s.StoreLog(entryAt(4)) },
		"raft.set":    func(s cluster.Store) error { return s.Set([]byte("k"), []byte("v")) },
		"raft.delete": func(s cluster.Store) error { return s.DeleteRange(3, 3) },
	}
	for point, step := range steps {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
			var failed int
			s := openStore(t, t.TempDir(), func(error) { failed++ })
			storeEntries(t, s, 1, 3)
			fault.Arm(point, action, 1)
			err := step(s)
			fault.Disarm()
			if !errors.Is(err, fault.ErrInjected) || failed != 1 {
				t.Errorf("%s %s: %v, %d reports", point, action, err, failed)
			}
			for again, step := range steps {
				if err := step(s); !errors.Is(err, fault.ErrInjected) || failed != 1 {
					t.Errorf("%s after %s %s: %v, %d reports", again, point, action, err, failed)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
