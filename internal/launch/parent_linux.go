package launch

import "syscall"

// attributes lets the kernel end the child when the thread that started it ends, so
// that a killed demo or test leaves nothing behind.
func attributes(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: ownGroup}
}
