package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferBytes is what one direction of a connection holds before Write blocks, about
// what a socket holds.
const bufferBytes = 256 << 10

// buffer is one direction of a connection.
type buffer struct {
	mu     sync.Mutex
	data   []byte
	closed bool          // by the writer: reads drain, then io.EOF
	broken bool          // by the reader: writes fail
	held   bool          // the network holds what was written: reads wait
	deaf   bool          // the network holds what the reader says: writes do not fail
	change chan struct{} // closed and replaced at every change
}

func newBuffer() *buffer { return &buffer{change: make(chan struct{})} }

// signalLocked wakes whoever waits for a change.
func (b *buffer) signalLocked() {
	close(b.change)
	b.change = make(chan struct{})
}

func (b *buffer) read(p []byte, limit *deadline) (int, error) {
	for {
		if limit.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		b.mu.Lock()
		if len(b.data) > 0 && !b.held {
			n := copy(p, b.data)
			b.data = b.data[n:]
			b.signalLocked()
			b.mu.Unlock()
			return n, nil
		}
		closed, broken, change := b.closed && !b.held, b.broken, b.change
		b.mu.Unlock()
		switch {
		case broken:
			return 0, net.ErrClosed
		case closed:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		if !limit.wait(change) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (b *buffer) write(p []byte, limit *deadline) (n int, err error) {
	for {
		if limit.passed() {
			return n, os.ErrDeadlineExceeded
		}
		b.mu.Lock()
		switch {
		case b.closed:
			b.mu.Unlock()
			return n, net.ErrClosed
		case b.broken && !b.deaf:
			b.mu.Unlock()
			return n, io.ErrClosedPipe
		}
		if room := bufferBytes - len(b.data); room > 0 && n < len(p) {
			chunk := p[n:min(len(p), n+room)]
			b.data = append(b.data, chunk...)
			n += len(chunk)
			b.signalLocked()
		}
		change := b.change
		b.mu.Unlock()
		if n == len(p) {
			return n, nil
		}
		if !limit.wait(change) {
			return n, os.ErrDeadlineExceeded
		}
	}
}

// hold says what the network lets through: what was written, and what the reader says.
func (b *buffer) hold(written, read bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.deaf = written, read
	b.signalLocked()
}

// over reports whether both ends are done with it.
func (b *buffer) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed && b.broken
}

// end marks the direction finished, by its writer or by its reader.
func (b *buffer) end(byReader bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if byReader {
		b.broken = true
	} else {
		b.closed = true
	}
	b.signalLocked()
}

// deadline is a settable point in time that interrupts a wait.
type deadline struct {
	mu     sync.Mutex
	at     time.Time
	change chan struct{}
}

func newDeadline() *deadline { return &deadline{change: make(chan struct{})} }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	close(d.change)
	d.change = make(chan struct{})
}

func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// wait blocks until change is closed, the deadline is moved, or it passes; then false.
func (d *deadline) wait(change <-chan struct{}) bool {
	d.mu.Lock()
	at, moved := d.at, d.change
	d.mu.Unlock()
	var timeout <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-change:
	case <-moved:
	case <-timeout:
		return false
	}
	return true
}
