package protocol

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// FrameTooLargeError says that a peer announced a frame beyond the cap.
type FrameTooLargeError struct {
	Bytes uint32
	Max   int
}

func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("frame of %d bytes announced, the limit is %d", e.Bytes, e.Max)
}

// Sizes of a reader's memory.
const (
	idleBytes   = 4 << 10   // what an idle connection holds
	pooledBytes = 512 << 10 // larger frames get memory of their own
)

// bodies lends memory for frames that do not fit the idle buffer.
var bodies = sync.Pool{New: func() any {
	b := make([]byte, 0, 64<<10)
	return &b
}}

// FrameReader cuts a stream into frames. While idle it holds a few KiB; larger frames
// borrow memory only while they are there. It is for one goroutine.
type FrameReader struct {
	in    *bufio.Reader
	max   int
	large *[]byte // borrowed, nil when not

	onPartial func(bytes int) // nil = nobody wants to know
	partial   bool            // onPartial was told of a frame that is not yet whole
}

// NewFrameReader reads frames of at most max bytes from r.
func NewFrameReader(r io.Reader, max int) *FrameReader {
	return &FrameReader{in: bufio.NewReaderSize(r, idleBytes), max: max}
}

// Next returns the next frame's body, valid until the call after it. At the end of the stream
// the error is io.EOF between frames and io.ErrUnexpectedEOF inside one; *FrameTooLargeError
// and an empty frame are final, too.
func (r *FrameReader) Next() ([]byte, error) {
	r.giveBack()
	if err := r.begin(); err != nil {
		return nil, err
	}
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	if uint64(n) > uint64(r.max) {
		return nil, &FrameTooLargeError{n, r.max}
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: empty frame", ErrMalformed)
	}
	r.await(int(n))
	body, err := r.body(int(n))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if r.partial {
		r.partial = false
		r.onPartial(0)
	}
	return body, err
}

// OnPartial lets f hear of frames that arrive in pieces: with the bytes of the frame (4 while its length is
// unknown) when it has begun and is not all there, and with 0 when it is. That is the place for a deadline, so
// that a peer that sends half a frame does not hold the reader for ever.
func (r *FrameReader) OnPartial(f func(bytes int)) { r.onPartial = f }

// begin waits for the first byte of a frame.
func (r *FrameReader) begin() error {
	if r.onPartial == nil {
		return nil
	}
	_, err := r.in.Peek(1)
	if err == nil {
		r.await(frameHead)
	}
	return err
}

// await tells onPartial if n bytes are not all there.
func (r *FrameReader) await(n int) {
	if r.onPartial != nil && r.in.Buffered() < n {
		r.partial = true
		r.onPartial(n)
	}
}

// length reads a frame's length.
func (r *FrameReader) length() (uint32, error) {
	head, err := r.in.Peek(frameHead)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	n := binary.BigEndian.Uint32(head)
	_, err = r.in.Discard(frameHead)
	return n, err
}

// body reads n bytes, which the cap has bounded: in place if they fit the idle buffer, else
// into borrowed memory.
func (r *FrameReader) body(n int) ([]byte, error) {
	if n <= idleBytes {
		body, err := r.in.Peek(n)
		if err != nil {
			return nil, err
		}
		_, err = r.in.Discard(n)
		return body[:n:n], err
	}
	body := r.room(n)
	_, err := io.ReadFull(r.in, body)
	return body, err
}

// Buffered is how many bytes were read from the stream and not yet returned: 0 means that
// Next will have to wait.
func (r *FrameReader) Buffered() int { return r.in.Buffered() }

// room borrows n bytes.
func (r *FrameReader) room(n int) []byte {
	r.large = bodies.Get().(*[]byte)
	if cap(*r.large) < n {
		*r.large = make([]byte, n)
	}
	return (*r.large)[:n]
}

// giveBack returns what the last frame borrowed.
func (r *FrameReader) giveBack() {
	if r.large == nil {
		return
	}
	if cap(*r.large) <= pooledBytes {
		bodies.Put(r.large)
	}
	r.large = nil
}

// Release gives back borrowed memory before a long wait; the last body is then invalid.
func (r *FrameReader) Release() { r.giveBack() }

// SetMax changes the cap for the frames to come.
func (r *FrameReader) SetMax(max int) { r.max = max }
