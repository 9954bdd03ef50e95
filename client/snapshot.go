package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/snapshot"
)

// Times that the broker may take for requests about snapshots, if the caller sets none.
const (
	snapshotOpenTimeout = 3 * time.Minute // it seals everything published until now
	snapshotReadTimeout = time.Minute
	snapshotPartBytes   = 512 << 10
)

// Snapshot says what a snapshot holds.
type Snapshot struct {
	Cluster string // id
	Node    string // that it was taken from
	Index   uint64 // of the log: everything up to it is in the snapshot, nothing behind it
	Taken   time.Time
	Records uint64
	Bytes   uint64 // of the stream
	SHA256  string // of what the stream holds, hex; its last 32 bytes
}

// SnapshotOptions change how a snapshot is saved.
type SnapshotOptions struct {
	// Progress is told after each part how many bytes came, and about how many will.
	Progress func(bytes, about uint64)
}

// SaveSnapshot writes a copy of everything the broker has stored to w: records with their publishers, topics, policy,
// revocations, producers. What was acknowledged before the call is in it. It needs the right "admin". It is a backup:
// `waxwing snapshot restore` makes a data folder of it.
//
// The stream is checked as it comes: checksums, order, digest, end. After an error what w got is worth nothing. A
// snapshot belongs to one connection: when that is lost, begin again. The bytes are not encrypted.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer, o SnapshotOptions) (Snapshot, error) {
	s, err := c.session(ctx)
	if err != nil {
		return Snapshot{}, fmt.Errorf("save snapshot: %w", err)
	}
	opened, err := ask[*protocol.Snapshot](ctx, s, snapshotOpenTimeout, &protocol.SnapshotOpen{})
	if err != nil {
		return Snapshot{}, fmt.Errorf("save snapshot: %w", err)
	}
	stream := &snapshotStream{ctx: ctx, session: s, token: opened.Token, about: opened.Bytes, progress: o.Progress}
	saved, err := stream.copy(w)
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = s.ask(closing, &protocol.SnapshotClose{Token: opened.Token}) // or it ends by itself
		return Snapshot{}, fmt.Errorf("save snapshot: %w", err)
	}
	return saved, nil
}

// ask sends one request over a session; d bounds it if ctx has no deadline.
func ask[T protocol.Message](ctx context.Context, s *session, d time.Duration, m protocol.Message) (T, error) {
	var none T
	if _, ok := ctx.Deadline(); !ok {
		bounded, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		ctx = bounded
	}
	answer, err := s.ask(ctx, m)
	if err != nil {
		return none, err
	}
	if e, failed := answer.(*protocol.Error); failed {
		return none, translate("snapshot", "", s.welcome.Identity, e)
	}
	t, ok := answer.(T)
	if !ok {
		return none, fmt.Errorf("%w: %v", errUnwelcome, answer.Kind())
	}
	return t, nil
}

// snapshotStream reads a snapshot part by part.
type snapshotStream struct {
	ctx      context.Context
	session  *session
	token    uint64
	about    uint64
	progress func(bytes, about uint64)
	offset   uint64
	part     []byte // what of the last part was not read yet
	last     bool
	err      error // the first of a request
}

// Read implements io.Reader.
func (s *snapshotStream) Read(p []byte) (int, error) {
	for len(s.part) == 0 {
		if s.last {
			return 0, io.EOF
		}
		m, err := ask[*protocol.SnapshotData](s.ctx, s.session, snapshotReadTimeout, &protocol.SnapshotRead{Token: s.token, Offset: s.offset, Max: snapshotPartBytes})
		if err != nil {
			s.err = err
			return 0, err
		}
		s.part, s.last = m.Data, m.Last
		if s.offset += uint64(len(m.Data)); s.progress != nil {
			s.progress(s.offset, max(s.about, s.offset))
		}
		if len(m.Data) == 0 && !m.Last {
			return 0, fmt.Errorf("%w: an empty part that is not the last", errUnwelcome)
		}
	}
	n := copy(p, s.part)
	s.part = s.part[n:]
	return n, nil
}

// copy writes the stream to w and checks it.
func (s *snapshotStream) copy(w io.Writer) (Snapshot, error) {
	r, err := snapshot.NewReader(io.TeeReader(s, w))
	for err == nil {
		_, err = r.Next()
	}
	if s.err != nil {
		return Snapshot{}, s.err // the reader would take the end of a connection for that of the stream
	}
	if !errors.Is(err, io.EOF) {
		return Snapshot{}, err
	}
	h := r.Head()
	records, _ := h.Totals()
	return Snapshot{Cluster: h.Cluster, Node: h.Node, Index: h.Index, Taken: h.Time(), Records: records, Bytes: s.offset, SHA256: r.Digest()}, nil
}
