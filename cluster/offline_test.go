package cluster_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

// look verifies a stopped node's folder as the command line does, and returns everything that is wrong with it.
func look(t testing.TB, dir string) (faults []string, r cluster.Report) {
	t.Helper()
	lock, err := cluster.LockReading(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	err = storage.Verify(t.Context(), filepath.Join(dir, "storage"), func(s storage.SegmentStatus) {
		if s.Fault != "" {
			faults = append(faults, s.Name+": "+s.Fault)
		}
	})
	head, ok, err2 := storage.HeadOf(filepath.Join(dir, "storage"))
	for _, err := range []error{err, err2} {
		if err != nil {
			faults = append(faults, fmt.Sprint(err))
		}
	}
	r, err = lock.Check(t.Context(), func() (storage.Head, bool) { return head, ok })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{r.NodeFault, r.LogFault} {
		if f != "" {
			faults = append(faults, f)
		}
	}
	return faults, r
}

// contents describes every file of a folder: name, size, time of the last change, sum.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := []byte(nil)
		if !d.IsDir() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), crc32.ChecksumIEEE(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestLookChangesNothing: a look at a stopped node finds nothing wrong with a good folder, reads all of its log, and
// leaves every byte and time as it was; meanwhile nobody can start, and a broker's folder is not looked at.
func TestLookChangesNothing(t *testing.T) {
	dir, _, h := sealedNode(t)
	before := contents(t, dir)
	faults, r := look(t, dir)
	if len(faults) > 0 || r.Node != "n1" || r.First != 1 || r.Last < h.Point.Index+5 || r.Mark != r.Last || r.Entries != r.Last {
		t.Errorf("%q, %+v", faults, r)
	}
	if after := contents(t, dir); after != before {
		t.Errorf("the folder was changed:\n%s\n%s", before, after)
	}
	lock, err := cluster.LockReading(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Lock(dir, "n1"); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a start during a look: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	owner, err := cluster.Lock(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.LockReading(dir); err == nil || !strings.Contains(err.Error(), "a broker uses it") {
		t.Errorf("a look at a broker's folder: %v", err)
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.LockReading(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no data folder") {
		t.Errorf("a look at an empty folder: %v", err)
	}
}

// TestLookFinds damages one thing at a time.
func TestLookFinds(t *testing.T) {
	dir, _, _ := sealedNode(t)
	for name, c := range map[string]struct {
		file string
		edit func(b []byte) []byte
		want string
	}{
		"an entry":          {"raft/*.wal", func(b []byte) []byte { b[2000] ^= 1; return b }, "CRC-32C of entry"},
		"a short log":       {"raft/*.wal", func(b []byte) []byte { return b[:3000] }, "acknowledged entries are lost"},
		"META":              {"raft/META", func(b []byte) []byte { b[20] ^= 1; return b }, "META: the raft log is damaged"},
		"MARK":              {"raft/MARK", func(b []byte) []byte { b[5] ^= 1; return b }, "the file MARK is damaged"},
		"node.json":         {"node.json", func(b []byte) []byte { return b[:5] }, "not JSON"},
		"a value log":       {"storage/segments/0000000001-0000000001/*.vlog", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "0000000001-0000000001: "},
		"a checkpoint":      {"storage/segments/0000000002-0000000002/*.vlog", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, "0000000002-0000000002: "},
		"a newer node.json": {"node.json", func([]byte) []byte { return []byte(`{"version":9,"node":"n1"}`) }, "newer program"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(dir, c.file))
			if err != nil || len(files) != 1 {
				t.Fatalf("%v, %v", files, err)
			}
			good, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.WriteFile(files[0], good, 0o600); err != nil {
					t.Fatal(err)
				}
			}()
			if err := os.WriteFile(files[0], c.edit(append([]byte(nil), good...)), 0o600); err != nil {
				t.Fatal(err)
			}
			if faults, _ := look(t, dir); len(faults) != 1 || !strings.Contains(faults[0], c.want) {
				t.Errorf("%q, want %q", faults, c.want)
			}
		})
	}
	if faults, _ := look(t, dir); len(faults) > 0 {
		t.Errorf("all is as it was, and still: %q", faults)
	}
}
