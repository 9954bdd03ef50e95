package cluster_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// tenAppends makes a raft log of ten appends of one entry each.
func tenAppends(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := openStore(t, dir, nil)
	for i := range uint64(10) {
		storeEntries(t, s, i+1, i+1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tail is the file of a small log, and its bytes.
func tail(t *testing.T, dir string) (name string, data []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if data, err = os.ReadFile(files[0]); err != nil {
		t.Fatal(err)
	}
	return files[0], data
}

// TestD03TailIsMissed: raft-wal takes damage in its newest file for a torn write and drops what is behind it, be it the
// newest entry or all but the first. The log must say so, and must leave the file as it is.
func TestD03TailIsMissed(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"newest entry": func(t *testing.T, dir string) { flip(t, dir, entryAt(10).Data) },
		"head of an early frame": func(t *testing.T, dir string) {
			file, data := tail(t, dir)
			at := bytes.Index(data, entryAt(3).Data)
			head := at - at%8 - 8 // the frame's own, 8 bytes, before those of the entry
			if data[head] != 1 {
				t.Fatalf("no frame begins at %d: % x", head, data[head:at])
			}
			data[head] ^= 4
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": func(t *testing.T, dir string) {
			file, data := tail(t, dir)
			if err := os.Truncate(file, int64(bytes.Index(data, entryAt(7).Data))); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, dir string) {
			file, _ := tail(t, dir)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tenAppends(t)
			damage(t, dir)
			_, err := cluster.OpenStore(dir, nil)
			if !errors.Is(err, cluster.ErrCorrupt) || !strings.Contains(err.Error(), "entries up to 10 were written and synced") || !strings.Contains(err.Error(), "delete the file MARK") {
				t.Fatalf("%v", err)
			}
			if err := os.Remove(filepath.Join(dir, "MARK")); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, dir, nil) // as the words say
			if last, err := s.LastIndex(); err != nil || last >= 10 {
				t.Errorf("the log ends at %d, %v", last, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMarkFollows: a tail that raft cuts is not missed, and whatever is wrong with MARK alone costs nothing.
func TestMarkFollows(t *testing.T) {
	dir := tenAppends(t)
	s := openStore(t, dir, nil)
	if err := errors.Join(s.DeleteRange(6, 10), s.Close()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "MARK")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 8*len(good); i += lane.Pick(5, 1, 1) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, nil)
		checkEntries(t, s, 1, 5)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, good) {
			t.Fatalf("bit %d: MARK is %x afterwards, want %x; %v", i, now, good, err)
		}
	}
	for _, bad := range [][]byte{nil, good[:5], append(bytes.Clone(good), 0)} {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, nil)
		checkEntries(t, s, 1, 5)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, good) {
		t.Errorf("MARK is %x afterwards, want %x; %v", now, good, err)
	}
}

// TestD03Meta: each bit of META, its loss, and its exchange for another file are noticed before anything is deleted.
func TestD03Meta(t *testing.T) {
	dir := tenAppends(t)
	name := filepath.Join(dir, "META")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if _, err := cluster.OpenStore(dir, nil); err == nil || !errors.Is(err, cluster.ErrCorrupt) && !strings.Contains(err.Error(), "newer program") {
			t.Errorf("%s: %v", what, err)
		}
		tail(t, dir)
	}
	for i := 0; i < 8*len(good); i += lane.Pick(17, 3, 1) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		refused("a flipped bit")
	}
	for n := 0; n < len(good); n += lane.Pick(17, 3, 1) {
		if err := os.WriteFile(name, good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		refused("cut short")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	refused("gone")
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir, nil)
	checkEntries(t, s, 1, 10)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestMetaTakesOver: a log that raft-wal kept with its own store is taken over whole.
func TestMetaTakesOver(t *testing.T) {
	dir := t.TempDir()
	w, err := wal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.SetUint64([]byte("CurrentTerm"), 7), w.SetUint64([]byte("LastVoteTerm"), 6), w.Set([]byte("LastVoteCand"), []byte("n1")), w.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := openStore(t, dir, nil)
		term, err := s.GetUint64([]byte("CurrentTerm"))
		voted, err2 := s.GetUint64([]byte("LastVoteTerm"))
		vote, err3 := s.Get([]byte("LastVoteCand"))
		if err := errors.Join(err, err2, err3, s.Close()); err != nil || term != 7 || voted != 6 || string(vote) != "n1" {
			t.Fatalf("term %d, vote %d for %q, %v", term, voted, vote, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "wal-meta.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
}

// TestMetaWriteFaults is the fault table of META: the change is reported as failed, nothing is written after it, and the
// next start has the value before or the new one.
func TestMetaWriteFaults(t *testing.T) {
	for _, point := range []string{"meta.write", "meta.rename", "meta.syncdir"} {
		for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
			dir, failed := t.TempDir(), 0
			s := openStore(t, dir, func(error) { failed++ })
			if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
				t.Fatal(err)
			}
			fault.Arm(point, action, 1)
			err := s.SetUint64([]byte("CurrentTerm"), 2)
			fault.Disarm()
			if !errors.Is(err, fault.ErrInjected) || failed != 1 {
				t.Errorf("%s %s: %v, %d reports", point, action, err, failed)
			}
			if err := s.SetUint64([]byte("CurrentTerm"), 3); err == nil {
				t.Errorf("%s %s: written after a failure", point, action)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = openStore(t, dir, nil)
			if term, err := s.GetUint64([]byte("CurrentTerm")); err != nil || term != 1 && term != 2 {
				t.Errorf("%s %s: term %d afterwards, %v", point, action, term, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
