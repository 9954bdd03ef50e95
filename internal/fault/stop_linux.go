package fault

import (
	"os"
	"runtime"
	"syscall"
)

// stop halts the whole process until SIGCONT. The signal goes to the calling thread, which takes
// it before it returns from the call: sent to the process, it could be taken by another thread
// while this one runs on into the step.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}
