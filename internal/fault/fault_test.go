package fault_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

func TestMain(m *testing.M) {
	if os.Getenv("WAXWING_TEST_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child takes one step and says how far it came by its exit code.
func child() {
	if err := fault.ArmFromEnv(); err != nil {
		os.Exit(9)
	}
	err := fault.Step("step", func() error {
		os.Stdout.WriteString("done")
		return nil
	})
	if err != nil {
		os.Exit(3)
	}
	os.Exit(0)
}

// TestActions runs each action in a process of its own.
func TestActions(t *testing.T) {
	for _, c := range []struct {
		action fault.Action
		done   string
		killed bool
		code   int
	}{
		{fault.Error, "", false, 3},
		{fault.ErrorDone, "done", false, 3},
		{fault.CrashBefore, "", true, 0},
		{fault.CrashAfter, "done", true, 0},
		{fault.PanicBefore, "", false, 2},
		{fault.PanicAfter, "done", false, 2},
	} {
		t.Run(string(c.action), func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "WAXWING_TEST_CHILD=1", fault.Env+"=step="+string(c.action))
			out, err := cmd.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("child ended with %v, want a failure", err)
			}
			status := exit.Sys().(syscall.WaitStatus)
			if string(out) != c.done || status.Signaled() != c.killed || (!c.killed && exit.ExitCode() != c.code) {
				t.Errorf("output %q, killed %v, code %d", out, status.Signaled(), exit.ExitCode())
			}
		})
	}
}

func TestNthHit(t *testing.T) {
	defer fault.Disarm()
	fault.Arm("p", fault.Error, 3)
	for i := 1; i <= 4; i++ {
		err := fault.Before("p")
		if got := errors.Is(err, fault.ErrInjected); got != (i == 3) {
			t.Errorf("hit %d: %v", i, err)
		}
	}
	if err := fault.Before("other"); err != nil {
		t.Error(err)
	}
}

func TestBadEnv(t *testing.T) {
	for _, text := range []string{"p", "p=explode", "p=error@x"} {
		t.Setenv(fault.Env, text)
		if err := fault.ArmFromEnv(); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestOffCostsNothing(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { _ = fault.Before("p") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
