package cluster_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
)

// fsyncEnv names the folder in which a child writes to a store while strace looks on.
const fsyncEnv = "WAXWING_TEST_FSYNC_DIR"

// fsyncWrites is how often the child does each kind of write.
const fsyncWrites = 20

// writeAndSay is the child: it says when a write has returned, into a pipe, which strace sees as well.
func writeAndSay(dir string) int {
	s, err := cluster.OpenStore(dir, func(error) { os.Exit(failStop) })
	if err != nil {
		return 1
	}
	say := func(what string) { _, _ = os.Stdout.WriteString("MARK " + what + "\n") }
	say("begin")
	for i := range uint64(fsyncWrites) {
		if s.StoreLog(entryAt(i+1)) != nil {
			return 1
		}
		say("append")
		if s.SetUint64([]byte("CurrentTerm"), i) != nil {
			return 1
		}
		say("term")
		if s.Set([]byte("LastVoteCand"), []byte{byte(i)}) != nil {
			return 1
		}
		say("vote")
	}
	if s.DeleteRange(fsyncWrites, fsyncWrites) != nil {
		return 1
	}
	say("cut")
	if s.Close() != nil {
		return 1
	}
	return 0
}

// TestR09FsyncPerWrite: every write of entries, term and vote, and the cut of a tail, has gone through an fsync of its own
// before it returns. strace watches the calls of a real process.
func TestR09FsyncPerWrite(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("R-09: %v", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-e", "signal=none", "-e", "trace=write,fsync,fdatasync,msync,sync_file_range", "-o", trace, os.Args[0])
	cmd.Env = append(os.Environ(), fsyncEnv+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("ptrace")) {
			t.Skipf("R-09: strace may not trace here: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for what, synced := range syncsBefore(string(text)) {
		for i, n := range synced {
			if n == 0 {
				t.Errorf("%s %d returned without an fsync", what, i+1)
			}
		}
		seen[what] = len(synced)
	}
	if want := fmt.Sprint(map[string]int{"append": fsyncWrites, "cut": 1, "term": fsyncWrites, "vote": fsyncWrites}); fmt.Sprint(seen) != want {
		t.Errorf("saw %v, want %v", seen, want)
	}
}

// syncDone is an fsync that returned 0, on one line or resumed on another.
var syncDone = regexp.MustCompile(`(fsync|fdatasync)(\(\d+\)|.* resumed>\)) += 0`)

// syncsBefore counts, for each write of the child, the fsyncs between the mark before it and its own.
func syncsBefore(trace string) map[string][]int {
	marks := map[string][]int{}
	syncs, begun := 0, false
	for line := range strings.SplitSeq(trace, "\n") {
		if syncDone.MatchString(line) {
			syncs++
		}
		_, mark, ok := strings.Cut(line, `write(1, "MARK `)
		if !ok {
			continue
		}
		what, _, _ := strings.Cut(mark, `\n`)
		if begun {
			marks[what] = append(marks[what], syncs)
		}
		begun, syncs = true, 0
	}
	return marks
}
