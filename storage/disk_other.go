//go:build !linux

package storage

import "os"

// SetAside is a wish that this system does not know.
func SetAside(*os.File, int64, int64) error { return nil }

// forgetCache is Linux only; the read-back then tests less.
func forgetCache(*os.File) error { return nil }

// startWriting is Linux only; elsewhere the system writes when it likes.
func startWriting(*os.File) {}
