package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/storage"
)

// Rules for snapshots. What is in one keeps its disk space, so they are few and do not outlive a reader that is gone.
const (
	snapshotsMax        = 2                // of a node
	snapshotIdle        = 60 * time.Second // then one that nobody reads ends
	snapshotOpenTimeout = 2 * time.Minute  // for cutting and sealing what was published until now
	snapshotPartBytes   = 512 << 10        // most of one SNAPSHOT_DATA
)

// snapshots are the open ones of a connection, by token.
type snapshots struct {
	mu    sync.Mutex
	ended bool                     // Guarded by mu. The connection ends; none is opened any more.
	next  uint64                   // Guarded by mu. The last token.
	open  map[uint64]*openSnapshot // Guarded by mu.
}

// openSnapshot is a snapshot being read.
type openSnapshot struct {
	token uint64
	idle  *time.Timer
	once  sync.Once // of end

	mu     sync.Mutex // held while a part is read and put in the outbox
	export *storage.Export
	offset uint64 // Guarded by mu. Of the part to come.
}

// onSnapshotOpen cuts the log and opens a copy of everything up to the cut.
func (c *conn) onSnapshotOpen(*protocol.SnapshotOpen) (protocol.Message, *fault) {
	select {
	case c.s.snapshots <- struct{}{}:
	default:
		return nil, &fault{code: protocol.CodeLimit, limit: "snapshots", text: fmt.Sprintf("the node has %d open snapshots, which is its limit; try again when one has ended", snapshotsMax)}
	}
	ctx, cancel := context.WithTimeout(c.ctx, snapshotOpenTimeout)
	defer cancel()
	export, err := c.s.options.Group.Snapshot(ctx, c.s.options.Version)
	if err != nil {
		<-c.s.snapshots
		return nil, c.snapshotFault(err)
	}
	s, ok := c.addSnapshot(export)
	if !ok {
		export.Close()
		<-c.s.snapshots
		return nil, errShutdown
	}
	head := export.Head()
	records, bytes := head.Totals()
	c.s.log.Info("snapshot opened", "by", c.peer.Principal, "index", head.Index, "segments", len(head.Segments), "bytes", bytes)
	return &protocol.Snapshot{Token: s.token, Index: head.Index, Records: records, Bytes: bytes}, nil
}

// addSnapshot makes a snapshot the connection's; false = the connection has ended.
func (c *conn) addSnapshot(e *storage.Export) (*openSnapshot, bool) {
	t := &c.snapshots
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, false
	}
	t.next++
	s := &openSnapshot{token: t.next, export: e}
	s.idle = time.AfterFunc(snapshotIdle, func() { c.endSnapshot(s, "nobody read it") })
	if t.open == nil {
		t.open = map[uint64]*openSnapshot{}
	}
	t.open[s.token] = s
	return s, true
}

// snapshot finds an open one.
func (c *conn) snapshot(token uint64) *openSnapshot {
	c.snapshots.mu.Lock()
	defer c.snapshots.mu.Unlock()
	return c.snapshots.open[token]
}

// onSnapshotRead sends the next part.
func (c *conn) onSnapshotRead(id uint64, m *protocol.SnapshotRead) (protocol.Message, *fault) {
	s := c.snapshot(m.Token)
	if s == nil {
		return nil, &fault{code: protocol.CodeNotFound, text: fmt.Sprintf("this connection has no snapshot %d; one ends with its connection, and when it is not read for %v: open another", m.Token, snapshotIdle)}
	}
	whole, err := s.send(c, id, m)
	switch {
	case err != nil:
		c.endSnapshot(s, "it could not be read")
		return nil, c.snapshotFault(err)
	case whole:
		c.endSnapshot(s, "whole")
	}
	return nil, nil
}

// send answers a SNAPSHOT_READ. It holds the snapshot's lock until the answer is in the outbox, and waits for room
// there first: parts leave in order, and only as fast as the client takes them.
func (s *openSnapshot) send(c *conn, id uint64, m *protocol.SnapshotRead) (whole bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Stop()
	defer s.idle.Reset(snapshotIdle)
	if m.Offset != s.offset || m.Max == 0 {
		c.answer(id, nil, invalid("the snapshot is at offset %d; %d bytes at offset %d cannot be read", s.offset, m.Max, m.Offset))
		return false, nil
	}
	if err := c.out.waitRoom(c.ctx); err != nil {
		return false, err
	}
	part := &protocol.SnapshotData{Data: make([]byte, min(m.Max, snapshotPartBytes))}
	n, err := io.ReadFull(s.export, part.Data)
	part.Last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !part.Last {
		return false, err
	}
	part.Data = part.Data[:n]
	s.offset += uint64(n)
	c.s.metrics.snapshotBytes.Add(float64(n))
	c.answer(id, part, nil)
	return part.Last, nil
}

// onSnapshotClose ends a snapshot.
func (c *conn) onSnapshotClose(m *protocol.SnapshotClose) (protocol.Message, *fault) {
	if s := c.snapshot(m.Token); s != nil {
		c.endSnapshot(s, "the client closed it")
	}
	return &protocol.OK{}, nil
}

// endSnapshot gives the segments free.
func (c *conn) endSnapshot(s *openSnapshot, why string) {
	s.once.Do(func() {
		c.snapshots.mu.Lock()
		delete(c.snapshots.open, s.token)
		c.snapshots.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.idle.Stop()
		s.export.Close()
		<-c.s.snapshots
		c.s.log.Info("snapshot ended", "by", c.peer.Principal, "index", s.export.Head().Index, "sent_bytes", s.offset, "why", why)
	})
}

// endSnapshots ends all of them, with the connection.
func (c *conn) endSnapshots() {
	t := &c.snapshots
	t.mu.Lock()
	t.ended = true
	list := slices.Collect(maps.Values(t.open))
	t.mu.Unlock()
	for _, s := range list {
		c.endSnapshot(s, "its connection ended")
	}
}

// snapshotFault says why a snapshot was not opened or cannot be read on. Nothing was written that a client knows of, so
// there is no outcome.
func (c *conn) snapshotFault(err error) *fault {
	var outcome *cluster.OutcomeError
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		c.s.log.Error("snapshot met damaged data", "error", err)
		return &fault{code: protocol.CodeCorrupt, text: "stored data is damaged; nothing was skipped, and the snapshot is not whole; the broker's log has the place"}
	case errors.Is(err, storage.ErrClosed), c.ctx.Err() != nil:
		return errShutdown
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &outcome) && outcome.Outcome == cluster.Unknown:
		return &fault{code: protocol.CodeTimeout, text: fmt.Sprintf("the log was not cut and sealed within %v; nothing was changed, try again", snapshotOpenTimeout)}
	}
	return c.s.faultOf(err)
}
