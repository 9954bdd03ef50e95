//go:build unix

package main

import "syscall"

// setUmask keeps every file that the broker makes to its owner.
func setUmask() { syscall.Umask(0o077) }

// noCore keeps the broker's memory, with keys and records in it, out of core files.
func noCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
