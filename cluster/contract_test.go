package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
)

// raftStore is what raft asks of a store.
type raftStore interface {
	raft.LogStore
	raft.StableStore
}

// TestR09Contract holds the store to what raft expects of one, beside raft's own store in memory, which must pass the same: else
// the test would ask for something else.
func TestR09Contract(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) raftStore{
		"ours": func(t *testing.T) raftStore {
			s := openStore(t, t.TempDir(), nil)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		},
		"behind the cache": func(t *testing.T) raftStore {
			s := openStore(t, t.TempDir(), nil)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			c, err := raft.NewLogCache(3, s)
			if err != nil {
				t.Fatal(err)
			}
			return struct {
				raft.LogStore
				raft.StableStore
			}{c, s}
		},
		"raft's own": func(*testing.T) raftStore { return raft.NewInmemStore() },
	} {
		t.Run(name+"/log", func(t *testing.T) { logContract(t, open(t)) })
		t.Run(name+"/stable", func(t *testing.T) { stableContract(t, open(t)) })
	}
}

func logContract(t *testing.T, s raftStore) {
	expect := func(first, last uint64) {
		t.Helper()
		f, err := s.FirstIndex()
		l, err2 := s.LastIndex()
		if err != nil || err2 != nil || f != first || l != last {
			t.Errorf("bounds %d to %d, %v, %v; want %d to %d", f, l, err, err2, first, last)
		}
	}
	expect(0, 0)
	if err := s.GetLog(1, new(raft.Log)); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares with ==
		t.Errorf("an empty log: %v", err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var want []raft.Log
	var batch []*raft.Log
	for i, typ := range []raft.LogType{raft.LogConfiguration, raft.LogNoop, raft.LogCommand, raft.LogBarrier, raft.LogCommand, raft.LogCommand} {
		l := raft.Log{Index: uint64(i + 1), Term: uint64(i/3) + 1, Type: typ, Data: bytes.Repeat([]byte{byte(i)}, i*i*30_000), AppendedAt: at.Add(time.Duration(i) * time.Second)}
		if i == 5 {
			l.Data, l.Extensions = []byte("data"), []byte("extension")
		}
		want = append(want, l)
		mine := l
		mine.Data = bytes.Clone(l.Data)
		batch = append(batch, &mine)
	}
	if err := errors.Join(s.StoreLog(batch[0]), s.StoreLogs(batch[1:])); err != nil {
		t.Fatal(err)
	}
	expect(1, 6)
	for i := range want {
		var got raft.Log
		if err := s.GetLog(uint64(i+1), &got); err != nil {
			t.Fatal(err)
		}
		w := want[i]
		if got.Index != w.Index || got.Term != w.Term || got.Type != w.Type || !bytes.Equal(got.Data, w.Data) || !bytes.Equal(got.Extensions, w.Extensions) || !got.AppendedAt.Equal(w.AppendedAt) {
			t.Errorf("entry %d came back as %d, %d, %v, %d bytes, %q, %v", i+1, got.Index, got.Term, got.Type, len(got.Data), got.Extensions, got.AppendedAt)
		}
	}
	if err := s.DeleteRange(5, 6); err != nil { // a tail, and others in its place
		t.Fatal(err)
	}
	expect(1, 4)
	again := &raft.Log{Index: 5, Term: 9, Type: raft.LogCommand, Data: []byte("another")}
	if err := s.StoreLog(again); err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	if err := s.GetLog(5, &got); err != nil || got.Term != 9 || string(got.Data) != "another" {
		t.Errorf("entry 5 is of term %d, %q, %v", got.Term, got.Data, err)
	}
	expect(1, 5)
	if err := s.DeleteRange(1, 2); err != nil { // the head
		t.Fatal(err)
	}
	expect(3, 5)
	if err := s.DeleteRange(3, 5); err != nil { // all of it: the next may be anywhere
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 50, Term: 9, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
	expect(50, 50)
}

func stableContract(t *testing.T, s raftStore) {
	// raft asks for these before it ever set them, and takes the text "not found" or an empty value for "never set".
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if v, err := s.GetUint64([]byte(key)); v != 0 || err != nil && err.Error() != "not found" {
			t.Errorf("%s, never set: %d, %v", key, v, err)
		}
	}
	if v, err := s.Get([]byte("LastVoteCand")); len(v) != 0 || err != nil && err.Error() != "not found" {
		t.Errorf("LastVoteCand, never set: %q, %v", v, err)
	}
	for _, n := range []uint64{0, 1, 255, 1 << 32, math.MaxUint64, 7} {
		if err := s.SetUint64([]byte("CurrentTerm"), n); err != nil {
			t.Fatal(err)
		}
		if got, err := s.GetUint64([]byte("CurrentTerm")); err != nil || got != n {
			t.Errorf("%d came back as %d, %v", n, got, err)
		}
	}
	for _, v := range []string{"n1", "", "a longer name of a node", "\x00\xff"} {
		value := []byte(v)
		if err := s.Set([]byte("LastVoteCand"), value); err != nil {
			t.Fatal(err)
		}
		clear(value) // the caller may reuse it; so may whoever reads
		for range 2 {
			got, err := s.Get([]byte("LastVoteCand"))
			if err != nil && err.Error() != "not found" || string(got) != v {
				if _, inmem := s.(*raft.InmemStore); !inmem { // that one keeps the slice
					t.Errorf("%q came back as %q, %v", v, got, err)
				}
			}
			if _, inmem := s.(*raft.InmemStore); !inmem {
				clear(got)
			}
		}
	}
	if got, err := s.GetUint64([]byte("CurrentTerm")); err != nil || got != 7 {
		t.Errorf("another key changed the term: %d, %v", got, err)
	}
}

// TestR09Refused: what would leave the log with a hole, a fork or an order that nobody can trust is refused, reported, and
// the last thing that is written.
func TestR09Refused(t *testing.T) {
	for name, step := range map[string]func(s cluster.Store) error{
		"a hole":                  func(s cluster.Store) error { return s.StoreLog(entryAt(12)) },
		"the last entry again":    func(s cluster.Store) error { return s.StoreLog(entryAt(10)) },
		"an old entry again":      func(s cluster.Store) error { return s.StoreLog(entryAt(4)) },
		"a hole in the batch":     func(s cluster.Store) error { return s.StoreLogs([]*raft.Log{entryAt(11), entryAt(13)}) },
		"backwards in the batch":  func(s cluster.Store) error { return s.StoreLogs([]*raft.Log{entryAt(11), entryAt(10)}) },
		"a cut out of the middle": func(s cluster.Store) error { return s.DeleteRange(4, 6) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var failed []error
			s := openStore(t, dir, func(err error) { failed = append(failed, err) })
			storeEntries(t, s, 1, 10)
			if err := step(s); err == nil || len(failed) != 1 {
				t.Errorf("%v, reported %v", err, failed)
			}
			if err := s.StoreLog(entryAt(11)); err == nil {
				t.Error("the log goes on behind it")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = openStore(t, dir, nil)
			checkEntries(t, s, 1, 10)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestR09Reopen: after each write the next open finds exactly what was written, however the writes came.
func TestR09Reopen(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for round, size := range []int{1, 2, 64, 7, 1, 30} {
		s := openStore(t, dir, nil)
		var batch []*raft.Log
		for range size {
			batch = append(batch, entryAt(next))
			next++
		}
		if err := errors.Join(s.StoreLogs(batch), s.SetUint64([]byte("CurrentTerm"), uint64(round)), s.Set([]byte("LastVoteCand"), fmt.Append(nil, round)), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir, nil)
		checkEntries(t, s, 1, next-1)
		term, err := s.GetUint64([]byte("CurrentTerm"))
		vote, err2 := s.Get([]byte("LastVoteCand"))
		if err := errors.Join(err, err2, s.Close()); err != nil || term != uint64(round) || string(vote) != fmt.Sprint(round) {
			t.Errorf("round %d: term %d, vote %q, %v", round, term, vote, err)
		}
	}
}
