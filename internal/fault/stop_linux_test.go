package fault_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// TestStop sees the process stand still on the right side of the step, and go on when it may.
func TestStop(t *testing.T) {
	for action, sofar := range map[fault.Action]string{fault.StopBefore: "", fault.StopAfter: "done"} {
		t.Run(string(action), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "out")
			out, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd := exec.Command(os.Args[0])
			cmd.Stdout = out
			cmd.Env = append(os.Environ(), "WAXWING_TEST_CHILD=1", fault.Env+"=step="+string(action))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var status syscall.WaitStatus
			if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("the child is %#x, %v; want stopped", status, err)
			}
			if text, err := os.ReadFile(name); err != nil || string(text) != sofar {
				t.Errorf("stopped with %q written, %v; want %q", text, err, sofar)
			}
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("after it was continued: %v", err)
			}
			if text, err := os.ReadFile(name); err != nil || string(text) != "done" {
				t.Errorf("ended with %q written, %v", text, err)
			}
		})
	}
}
