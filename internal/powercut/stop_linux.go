package powercut

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// siginfo codes of a child that changed its state (sigaction(2)).
const codeStopped = 5

// AwaitStop waits until a child of this process stands still as a whole: each of its threads has
// left the kernel, so none is within an fsync. A child that ends instead is an error. The exit
// status stays for whoever waits for the child.
func AwaitStop(pid int) error {
	var info unix.Siginfo
	if err := waitid(pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT); err != nil {
		return fmt.Errorf("await stop of process %d: %w", pid, err)
	}
	if info.Code != codeStopped {
		return fmt.Errorf("await stop of process %d: it ended (code %d)", pid, info.Code)
	}
	// Take the news, so that the next call waits for the next stop.
	if err := waitid(pid, &info, unix.WSTOPPED|unix.WNOHANG); err != nil {
		return fmt.Errorf("await stop of process %d: %w", pid, err)
	}
	return nil
}

func waitid(pid int, info *unix.Siginfo, options int) error {
	for {
		if err := unix.Waitid(unix.P_PID, pid, info, options, nil); err != unix.EINTR {
			return err
		}
	}
}
