package launch_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/internal/launch"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv("WAXWING_TEST_CHILD"); mode != "" {
		child(mode)
	}
	os.Exit(m.Run())
}

// child announces itself and waits for a signal, or ends at once.
func child(mode string) {
	os.Stderr.WriteString("child log line\n")
	if mode == "dies" {
		os.Exit(7)
	}
	if mode == "ready" {
		if err := launch.Announce(launch.Ready{PID: os.Getpid(), Node: "n1", Client: "127.0.0.1:1"}, os.Getenv); err != nil {
			os.Exit(8)
		}
	}
	<-time.After(time.Hour) // with a timer: the runtime ends a process in which nothing can ever run again
}

func start(ctx context.Context, mode string) (*launch.Process, error) {
	return launch.Start(ctx, launch.Options{Env: []string{"WAXWING_TEST_CHILD=" + mode}})
}

func TestReadyThenKill(t *testing.T) {
	p, err := start(t.Context(), "ready")
	if err != nil {
		t.Fatal(err)
	}
	if p.Ready.PID != p.PID() || p.Ready.Node != "n1" {
		t.Errorf("announced %+v, pid %d", p.Ready, p.PID())
	}
	p.Kill()
	var exit *exec.ExitError
	if !errors.As(p.Wait(), &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v, want SIGKILL", p.Wait())
	}
}

func TestStopIsGraceful(t *testing.T) {
	p, err := start(t.Context(), "ready")
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Stop(t.Context()); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want SIGTERM", err)
	}
}

func TestEarlyEndShowsTheLog(t *testing.T) {
	_, err := start(t.Context(), "dies")
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "child log line") {
		t.Errorf("got %v", err)
	}
}

func TestNeverReady(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := start(ctx, "silent"); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestOwnGroup: a ^C at the terminal goes to the group of the one in front, of which such a child is not.
func TestOwnGroup(t *testing.T) {
	for _, own := range []bool{true, false} {
		p, err := launch.Start(t.Context(), launch.Options{Env: []string{"WAXWING_TEST_CHILD=ready"}, OwnGroup: own})
		if err != nil {
			t.Fatal(err)
		}
		group, err := syscall.Getpgid(p.PID())
		if err != nil || (group == p.PID()) != own {
			t.Errorf("own group %t: group %d of process %d, %v", own, group, p.PID(), err)
		}
		p.Kill()
	}
}
