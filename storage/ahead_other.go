//go:build !linux

package storage

// Elsewhere the kernel reads ahead as it likes.
func readNothingAhead(string) error { return nil }

func readAhead([]byte) {}

func readFileAhead(string) {}
