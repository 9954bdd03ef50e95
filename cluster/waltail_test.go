package cluster_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

const walFileBytes = 64 << 10

func walEntry(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 1, Data: bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), 100)}
}

// halfRotated makes a log whose process died when its last file was full and sealed, and META did not name the next
// one yet. It returns the last entry.
func halfRotated(t *testing.T, dir string) (last uint64) {
	t.Helper()
	w, err := cluster.OpenWALWith(dir, walFileBytes)
	if err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, "META")
	var before []byte
	for i := uint64(1); len(walFiles(t, dir)) < 2; i++ {
		if err := w.StoreLog(walEntry(i)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if before, err = os.ReadFile(meta); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files := walFiles(t, dir)
	if _, err := fmt.Sscanf(filepath.Base(files[1]), "%d-", &last); err != nil {
		t.Fatal(err)
	}
	last--
	if err := os.WriteFile(meta, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	return last
}

func walFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// goesOn opens the log, which must end at an entry, appends over two more files, and reads all of it, also after another
// start.
func goesOn(t *testing.T, dir string, last uint64) {
	t.Helper()
	w, err := cluster.OpenWALWith(dir, walFileBytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.LastIndex(); err != nil || got != last {
		t.Errorf("it ends at %d, %v; want %d", got, err, last)
	}
	end := 3 * last
	for i := last + 1; i <= end; i++ {
		if err := w.StoreLog(walEntry(i)); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	check := func(w *wal.WAL) {
		t.Helper()
		for i := uint64(1); i <= end; i++ {
			var l raft.Log
			if err := w.GetLog(i, &l); err != nil || !bytes.Equal(l.Data, walEntry(i).Data) {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(w)
	if w, err = cluster.OpenWALWith(dir, walFileBytes); err != nil {
		t.Fatal(err)
	}
	check(w)
}

// TestHalfRotated is C-04 for the raft log's own files: a crash between a full file and the next one. raft-wal alone
// would refuse every append from then on.
func TestHalfRotated(t *testing.T) {
	dir := t.TempDir()
	last := halfRotated(t, dir)
	w, err := cluster.OpenWAL(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.StoreLog(walEntry(last + 1)); err == nil {
		t.Error("raft-wal finishes the rotation itself now: this repair can go")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, last)
	if files := walFiles(t, dir); len(files) < 3 {
		t.Errorf("files %v", files)
	}
}

// TestHalfRotatedAndTorn tears the last write of the full file, which carries the index as well: what was never
// acknowledged goes, and the file goes on.
func TestHalfRotatedAndTorn(t *testing.T) {
	base := t.TempDir()
	last := halfRotated(t, base)
	name := filepath.Base(walFiles(t, base)[0])
	whole, err := os.ReadFile(filepath.Join(base, name))
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(whole, "\x00"))
	write := bytes.LastIndex(whole[:end], walEntry(last).Data) - 13 // where its frame begins
	for at := write; at < end; at += lane.Pick(97, 7, 1) {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			torn := bytes.Clone(whole)
			clear(torn[at:])
			goesOn(t, withFile(t, base, name, torn), last-1)
		})
	}
	t.Run("commit", func(t *testing.T) { // all of it is there but for the sum
		torn := bytes.Clone(whole)
		torn[write+200] ^= 1
		goesOn(t, withFile(t, base, name, torn), last-1)
	})
}

// withFile is a copy of a folder with one file replaced.
func withFile(t *testing.T, base, name string, text []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
