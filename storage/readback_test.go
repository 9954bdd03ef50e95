package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/waxwing-mq/waxwing/storage"
)

// TestSealReadsBack: what the disk has is compared with what was appended before a segment counts as sealed. A value
// that came out differently, or not at all, is found then, while the raft log still has its entries.
func TestSealReadsBack(t *testing.T) {
	for name, damage := range map[string]func(l *storage.Log, raw []byte) error{
		"one bit":      func(l *storage.Log, raw []byte) error { raw[len(raw)/2] ^= 4; return l.SetValue(1, 0, raw) },
		"a hole":       func(l *storage.Log, _ []byte) error { return l.DeleteValue(1, 0) },
		"twice":        func(l *storage.Log, raw []byte) error { return l.SetValue(7, 0, raw) },
		"empty values": func(l *storage.Log, _ []byte) error { return l.SetValue(1, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			failed := 0
			l, err := storage.Open(storage.Options{Dir: dir, TailBytes: 1, Fail: func(error) { failed++ }})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			raws := fill(t, l, 1, 1, 900)
			flush(t, l)
			if err := damage(l, append([]byte(nil), raws[0]...)); err != nil {
				t.Fatal(err)
			}
			cut(t, l, 1, 50)
			if err := l.Flush(); !errors.Is(err, storage.ErrCorrupt) || failed != 1 {
				t.Errorf("sealed with %v, %d reports; want ErrCorrupt", err, failed)
			}
			if h, ok := l.Head(); ok {
				t.Errorf("it became the head: %+v", h)
			}
			if _, err := os.Stat(filepath.Join(dir, "segments", "0000000001-0000000001", "SEALED")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it has a file SEALED: %v", err)
			}
		})
	}
}
