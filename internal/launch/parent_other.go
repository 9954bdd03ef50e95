//go:build !linux

package launch

import "syscall"

// attributes has no counterpart of Pdeathsig here.
func attributes(ownGroup bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: ownGroup} }
