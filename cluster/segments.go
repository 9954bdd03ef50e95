package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/storage"
)

// segmentPatience is how long either end of a link of purpose segments waits for the other.
const segmentPatience = 30 * time.Second

// ServeSegments answers what another node asks on a link of purpose segments, until it ends. The caller closes it.
func (g *Group) ServeSegments(c net.Conn) {
	in := protocol.NewFrameReader(c, protocol.SegmentFrameBytesMax)
	buf := make([]byte, protocol.SegmentPartBytes)
	var out []byte
	for {
		if err := c.SetDeadline(time.Now().Add(segmentPatience)); err != nil {
			return
		}
		body, err := in.Next()
		if err != nil {
			return
		}
		id, m, err := protocol.Decode(body)
		ask, ok := m.(*protocol.SegmentRead)
		if err != nil || !ok {
			g.options.Logger.Warn("a link for segments ended: the other node asked for something else", "error", err)
			return
		}
		out = g.segmentPart(ask, buf).AppendFrame(out[:0], id)
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// segmentPart reads what was asked for.
func (g *Group) segmentPart(ask *protocol.SegmentRead, buf []byte) protocol.Message {
	g.installs.lease.asked()
	if ask.Offset > 1<<62 {
		return &protocol.Error{Code: protocol.CodeNotFound, Text: "no file is that long"}
	}
	buf = buf[:min(ask.Max, uint64(len(buf)))]
	if ask.Segment == "" && ask.File == storage.ListingFile {
		return listingPart(g.options.Log, ask.Offset, buf)
	}
	n, size, err := g.options.Log.ReadFile(ask.Segment, ask.File, int64(ask.Offset), buf)
	switch {
	case errors.Is(err, storage.ErrNoSegment), errors.Is(err, storage.ErrNoFile):
		return &protocol.Error{Code: protocol.CodeNotFound, Text: err.Error()}
	case errors.Is(err, storage.ErrDamaged):
		return &protocol.Error{Code: protocol.CodeCorrupt, Text: err.Error()}
	case errors.Is(err, storage.ErrCorrupt):
		g.options.Logger.Error("a segment that another node wants cannot be read", "segment", ask.Segment, "error", err)
		return &protocol.Error{Code: protocol.CodeCorrupt, Text: err.Error()}
	case err != nil:
		g.options.Logger.Warn("a segment that another node wants cannot be read now", "segment", ask.Segment, "error", err)
		return &protocol.Error{Code: protocol.CodeInternal, Text: "look at this node's log"}
	}
	return &protocol.SegmentData{Size: uint64(size), Offset: ask.Offset, CRC: crc32.Checksum(buf[:n], castagnoli), Data: buf[:n]}
}

// listingPart reads a piece of the list of sealed segments. If the list changes between two pieces its CRC tells.
func listingPart(log *storage.Log, offset uint64, buf []byte) protocol.Message {
	li, ok := log.Listing()
	if !ok {
		return &protocol.Error{Code: protocol.CodeNotFound, Text: "nothing is sealed yet"}
	}
	all := li.Append(nil)
	n := copy(buf, all[min(offset, uint64(len(all))):])
	return &protocol.SegmentData{Size: uint64(len(all)), Offset: offset, CRC: crc32.Checksum(buf[:n], castagnoli), Data: buf[:n]}
}

// segmentLink asks another node for segments.
type segmentLink struct {
	conn net.Conn
	in   *protocol.FrameReader
	id   uint64
	out  []byte
}

func newSegmentLink(c net.Conn) *segmentLink {
	return &segmentLink{conn: c, in: protocol.NewFrameReader(c, protocol.SegmentFrameBytesMax)}
}

// errChunk says that bytes came over a link damaged; errMissing that the other node has no such segment.
var (
	errChunk   = errors.New("a piece of a segment arrived damaged")
	errMissing = errors.New("the other node has not got it")
)

// read asks for a piece. The link is of no use after an error other than errChunk.
func (k *segmentLink) read(segment, file string, offset int64) (*protocol.SegmentData, error) {
	k.id++
	if err := k.conn.SetDeadline(time.Now().Add(segmentPatience)); err != nil {
		return nil, err
	}
	ask := protocol.SegmentRead{Segment: segment, File: file, Offset: uint64(offset), Max: protocol.SegmentPartBytes}
	k.out = ask.AppendFrame(k.out[:0], k.id)
	if _, err := k.conn.Write(k.out); err != nil {
		return nil, err
	}
	body, err := k.in.Next()
	if err != nil {
		return nil, err
	}
	id, m, err := protocol.Decode(body)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *protocol.SegmentData:
		if id != k.id || m.Offset != uint64(offset) {
			return nil, fmt.Errorf("asked for %s, file %s at %d, and got an answer to something else", segment, file, offset)
		}
		if got := crc32.Checksum(m.Data, castagnoli); got != m.CRC {
			return nil, fmt.Errorf("%w: %s, file %s at %d: CRC-32C is %08x, should be %08x", errChunk, segment, file, offset, got, m.CRC)
		}
		return m, nil
	case *protocol.Error:
		return nil, fmt.Errorf("%w: %s (%v)", errMissing, m.Text, m.Code)
	}
	return nil, fmt.Errorf("asked for a piece of a segment, and got %v", m.Kind())
}

// chunkTries is how often a piece that arrives damaged is asked for.
const chunkTries = 4

// piece is read, again if what comes is damaged.
func (k *segmentLink) piece(segment, file string, offset int64) (m *protocol.SegmentData, err error) {
	for range chunkTries {
		if m, err = k.read(segment, file, offset); !errors.Is(err, errChunk) {
			return m, err
		}
	}
	return nil, err
}

// sealedFile reads the file that says what a segment is.
func (k *segmentLink) sealedFile(segment string) ([]byte, error) {
	return k.whole(segment, storage.SealedFile, storage.SealedBytesMax)
}

// listing asks which segments the other node has sealed.
func (k *segmentLink) listing() (*storage.Listing, error) {
	text, err := k.whole("", storage.ListingFile, storage.ListingBytesMax)
	if err != nil {
		return nil, err
	}
	return storage.ParseListing(text)
}

// whole reads a file of at most so many bytes into memory.
func (k *segmentLink) whole(segment, file string, most uint64) (text []byte, err error) {
	for {
		m, err := k.piece(segment, file, int64(len(text)))
		switch {
		case err != nil:
			return nil, err
		case m.Size > most || uint64(len(text)+len(m.Data)) > m.Size:
			return nil, fmt.Errorf("%w: its file %s has %d bytes", storage.ErrOffered, file, m.Size)
		}
		if text = append(text, m.Data...); uint64(len(text)) == m.Size || len(m.Data) == 0 {
			return text, nil
		}
	}
}

// fetch takes a segment over the link, and goes on where an earlier fetch ended. If that was from a node that laid the
// segment out in another way it ends with storage.ErrOtherSource, or begins anew.
func (k *segmentLink) fetch(ctx context.Context, r *storage.Receiver, want storage.Listed, anew bool) (err error) {
	stop := context.AfterFunc(ctx, func() { k.conn.Close() })
	defer stop()
	defer func() { err = errors.Join(err, r.Close()) }()
	text, err := k.sealedFile(want.Name())
	if err != nil {
		return err
	}
	if err := r.Begin(text, anew); err != nil {
		return err
	}
	for {
		name, offset, size, more := r.Next()
		if !more {
			return r.Finish(ctx)
		}
		m, err := k.piece(want.Name(), name, offset)
		if err != nil {
			return err
		}
		if m.Size != uint64(size) || offset+int64(len(m.Data)) > size || len(m.Data) == 0 && offset < size {
			return fmt.Errorf("%w: file %s has %d bytes, should have %d", storage.ErrOffered, name, m.Size, size)
		}
		if err := r.Write(ctx, name, offset, m.Data); err != nil {
			return err
		}
	}
}
