package storage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/storage"
)

// TestNothingIsReadAhead looks at how the kernel was told to read a sealed segment: its values in random order (flag rr
// in proc_pid_smaps(5)). Without that each value of 16 KiB can cost megabytes of the disk; BenchmarkCold has the figures.
func TestNothingIsReadAhead(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir()) // the kernel knows files by their real names
	if err != nil {
		t.Fatal(err)
	}
	sealedDir(t, dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	l := open(t, storage.Options{Dir: link, TailBytes: 1})
	place(t, l)
	if _, err := readAll(l, 1, 0); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "VmFlags:") {
		t.Skip("this kernel does not tell how files are mapped")
	}
	sealed, random := 0, 0
	for rest := string(text); ; {
		_, behind, found := strings.Cut(rest, filepath.Join(dir, "segments"))
		if !found {
			break
		}
		name, _, _ := strings.Cut(behind, "\n")
		_, flags, _ := strings.Cut(behind, "VmFlags:")
		flags, rest, _ = strings.Cut(flags, "\n")
		if !strings.HasSuffix(name, ".vlog") || strings.HasPrefix(name, "/0000000003") {
			continue // a table, or of the active segment
		}
		sealed++
		if strings.Contains(flags, " rr") {
			random++
		}
	}
	if sealed != 2 || random != sealed {
		t.Errorf("%d value logs of sealed segments are mapped, %d of them for random reads; want 2", sealed, random)
	}
}
