package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// tornLog is a raft log of a node that was cut off in its last append.
type tornLog struct {
	dir, file  string
	mark       []byte // before that append
	markBehind []byte // and after it
	from       int64  // where the append begins in the file
	whole      []byte // what it writes
}

// newTornLog appends entries 1 to 5, which count, and then 6 to 8 in one append.
func newTornLog(t *testing.T) *tornLog {
	t.Helper()
	l := &tornLog{dir: t.TempDir()}
	s := openStore(t, l.dir, nil)
	for i := range uint64(5) {
		storeEntries(t, s, i+1, i+1)
	}
	files, err := filepath.Glob(filepath.Join(l.dir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	l.file = files[0]
	before := l.content(t)
	l.mark = l.read(t, "MARK")
	storeEntries(t, s, 6, 8)
	after := l.content(t)
	l.markBehind = l.read(t, "MARK")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l.from, l.whole = int64(len(before)), after[len(before):]
	return l
}

// content is the file without the zeros behind it.
func (l *tornLog) content(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(l.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 16<<10) // more than the entries take
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(b, "\x00"))
	return b[:(end+7)/8*8] // frames begin at multiples of 8
}

func (l *tornLog) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tear puts what of the append reached the disk into the file, and a mark beside it.
func (l *tornLog) tear(t *testing.T, written, mark []byte) {
	t.Helper()
	f, err := os.OpenFile(l.file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	padded := append(bytes.Clone(written), make([]byte, 8<<10-len(written))...)
	if _, err := f.WriteAt(padded, l.from); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "MARK"), mark, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestD06TornAppend cuts the last append at each byte, and takes a sector out of its middle: everything before it is
// there, nothing of it is, the log goes on, also with an append that is shorter than what is torn, and that one stays. If the
// torn append had been acknowledged, the log is refused.
func TestD06TornAppend(t *testing.T) {
	l := newTornLog(t)
	step := lane.Pick(41, 7, 1)
	for at := 0; at < len(l.whole); at += step {
		l.goesOn(t, l.whole[:at], fmt.Sprintf("cut at byte %d of %d", at, len(l.whole)))
		hole := bytes.Clone(l.whole)
		clear(hole[at:min(at+512, len(hole))])
		if !bytes.Equal(hole, l.whole) {
			l.goesOn(t, hole, fmt.Sprintf("zeros from byte %d of %d", at, len(l.whole)))
		}
		l.tear(t, l.whole[:at], l.markBehind)
		s, err := cluster.OpenStore(l.dir, func(error) {})
		if !errors.Is(err, cluster.ErrCorrupt) {
			t.Errorf("acknowledged, cut at byte %d: %v, want ErrCorrupt", at, err)
		}
		if s != nil {
			_ = s.Close()
		}
	}
	l.tear(t, l.whole, l.mark)
	s := openStore(t, l.dir, nil)
	checkEntries(t, s, 1, 8) // whole, and not acknowledged: it may be there
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// goesOn opens the log with a torn append, and appends another one.
func (l *tornLog) goesOn(t *testing.T, written []byte, what string) {
	t.Helper()
	l.tear(t, written, l.mark)
	s := openStore(t, l.dir, nil)
	if last, err := s.LastIndex(); err != nil || last != 5 {
		t.Fatalf("%s: the log ends at %d, %v; want 5", what, last, err)
	}
	checkEntries(t, s, 1, 5)
	short := &raft.Log{Index: 6, Term: 9, Type: raft.LogNoop}
	if err := errors.Join(s.StoreLog(short), s.Close()); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	s = openStore(t, l.dir, nil)
	var got raft.Log
	last, err := s.LastIndex()
	if err := errors.Join(err, s.GetLog(6, &got)); err != nil || last != 6 || got.Term != 9 {
		t.Fatalf("%s: after another append the log ends at %d with %+v, %v", what, last, got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
