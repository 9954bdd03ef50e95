package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// logBook keeps a whole log and tells of each write.
type logBook struct {
	mu    sync.Mutex
	text  bytes.Buffer // Guarded by mu.
	wrote chan struct{}
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(b)
	l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the log holds a text.
func (l *logBook) await(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.wrote:
		case <-t.Context().Done():
			t.Fatalf("the log never said %q", text)
		}
	}
}
