package powercut

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCutLosesWhatWasNotSynced is what makes a copy a power cut: the file that was fsynced is in it,
// the one that was only written is not.
func TestCutLosesWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	if err := Missing(dir); err != nil {
		t.Skip(err)
	}
	d, err := NewDisk(filepath.Join(dir, "a.img"), filepath.Join(dir, "a"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer discard(t, d)
	text := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	write(t, filepath.Join(d.Dir, "synced"), text, true)
	write(t, filepath.Join(d.Dir, "written"), text, false)
	if err := d.Cut(filepath.Join(dir, "b.img")); err != nil {
		t.Fatal(err)
	}
	cut, err := Mount(filepath.Join(dir, "b.img"), filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer discard(t, cut)
	if got, err := os.ReadFile(filepath.Join(cut.Dir, "synced")); err != nil || !bytes.Equal(got, text) {
		t.Errorf("synced file: %d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(cut.Dir, "written")); err == nil && bytes.Equal(got, text) {
		t.Error("a file that was not synced is in the copy")
	}
	if got, err := os.ReadFile(filepath.Join(d.Dir, "written")); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the copy disturbed the disk: %d bytes, %v", len(got), err)
	}
}

func write(t *testing.T, name string, text []byte, sync bool) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(text)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func discard(t *testing.T, d *Disk) {
	t.Helper()
	if err := d.Discard(); err != nil {
		t.Error(err)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 1 << 20, 5<<20 + 17} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte("an older copy"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(from, to); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs: %d bytes of %d, %v", len(got), len(want), err)
	}
}

func TestParseCounters(t *testing.T) {
	const text = "  1 2 3 4 50 6 70 8 9 10 11 120 13 14 15 16 17\n"
	if got, err := parseCounters(text); err != nil || got != (counters{writes: 50, sectors: 70, inFlight: 9, discards: 120}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2 3", "a b c d e f g h i j k l"} {
		if _, err := parseCounters(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestAwaitStop stops a child twice, and ends it.
func TestAwaitStop(t *testing.T) {
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := AwaitStop(child.Process.Pid); err != nil {
			t.Error(err)
		}
		if err := child.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := AwaitStop(child.Process.Pid); err == nil {
		t.Error("a child that ended counts as stopped")
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the end of the child was taken from its owner: %v", err)
	}
}
