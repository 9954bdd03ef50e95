package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/storage"
)

// installs fill this node when it is too far behind the leader's log. raft sends a list of sealed segments; the ones that
// are not here are fetched in the background, since raft stands still while it takes a snapshot, and until they are here
// each attempt of the leader's is refused at once (reference rule 7). The attempt that finds them all puts them in their
// place (fsm.install).
type installs struct {
	options *Options
	log     *slog.Logger
	store   *store
	fsm     *fsm
	metrics *metrics
	lease   lease // of what other nodes fetch here
	raft    atomic.Pointer[raft.Raft]
	dial    func(ctx context.Context, to raft.Server) (net.Conn, error) // nil = no installs

	ctx  context.Context // of the fetch; it ends with close
	stop context.CancelCauseFunc
	work sync.WaitGroup

	mu       sync.Mutex
	wanted   *storage.Listing // Guarded by mu. What the fetch is for; the newest.
	fetching bool             // Guarded by mu.
	ready    *storage.Listing // Guarded by mu. All of it is here, and raft is about to restore from it.
	closed   bool             // Guarded by mu.
}

func newInstalls(o *Options, s *store, f *fsm, m *metrics) *installs {
	in := &installs{options: o, log: o.Logger, store: s, fsm: f, metrics: m, lease: lease{log: o.Log}}
	in.ctx, in.stop = context.WithCancelCause(context.Background())
	f.in = in
	return in
}

// close ends the fetch, and what others fetch is not kept any more.
func (in *installs) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.stop(ErrShutdown)
	in.work.Wait()
	in.lease.close()
}

// Refusals of an install; the leader tries again.
var (
	errBehind   = errors.New("the snapshot is not ahead of what this node has")
	errFetching = errors.New("segments are being fetched")
)

// create takes a snapshot of the leader's, if it is ahead of everything that is known here to be committed (reference
// rule 6): raft itself does not look.
func (in *installs) create(index, term uint64, c raft.Configuration, configured uint64) (*sink, error) {
	if err := in.ahead(index); err != nil {
		return nil, err
	}
	return &sink{in: in, index: index, term: term, members: members{configured, raft.EncodeConfiguration(c)}}, nil
}

// ahead says whether an install up to index may be: nil, or why not.
func (in *installs) ahead(index uint64) error {
	r := in.raft.Load()
	if r == nil {
		return errors.New("this node has not started yet")
	}
	known := max(r.AppliedIndex(), r.CommitIndex())
	h, _ := in.options.Log.Head()
	_, last, err := in.store.bounds()
	switch {
	case err != nil:
		return err
	case index == h.Point.Index && h.Installed && known <= index && last == 0:
		return nil // just installed: the answer was lost on its way, and the leader asks again
	case index <= max(known, h.Point.Index):
		return fmt.Errorf("%w: entry %d; entry %d is committed, the segments end at entry %d", errBehind, index, known, h.Point.Index)
	}
	return nil
}

// sink takes the list of segments that is all of a snapshot's stream.
type sink struct {
	in          *installs
	index, term uint64
	members     members
	stream      []byte
}

// ID names the snapshot.
func (s *sink) ID() string { return fmt.Sprintf("install-%d", s.index) }

// Write takes a part of the list.
func (s *sink) Write(b []byte) (int, error) {
	if len(s.stream)+len(b) > storage.ListingBytesMax {
		return 0, fmt.Errorf("a snapshot's list of segments has more than %d bytes", storage.ListingBytesMax)
	}
	s.stream = append(s.stream, b...)
	return len(b), nil
}

// Cancel forgets it.
func (s *sink) Cancel() error { return nil }

// Close ends without an error only if every segment is here, read back from the disk.
func (s *sink) Close() error {
	li, err := storage.ParseListing(s.stream)
	if err != nil {
		return fmt.Errorf("install up to entry %d: %w", s.index, err)
	}
	if li.Point.Index != s.index || li.Point.Term != s.term || !bytes.Equal(li.Point.Meta, s.members.append(nil)) {
		return fmt.Errorf("install up to entry %d, term %d: %w: it is of entry %d, term %d, or of other members", s.index, s.term, storage.ErrListing, li.Point.Index, li.Point.Term)
	}
	return s.in.offer(li)
}

// offer makes a list of segments ready to be restored from, or has those that are not here fetched.
func (in *installs) offer(li *storage.Listing) error {
	if err := in.ahead(li.Point.Index); err != nil {
		return err
	}
	var lacking []storage.Listed
	if h, _ := in.options.Log.Head(); h.Point.Index != li.Point.Index {
		var err error
		if lacking, err = in.options.Log.Lacking(li); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return ErrShutdown
	}
	if len(lacking) == 0 && !in.fetching {
		in.ready = li
		return nil
	}
	in.wanted = li
	if !in.fetching {
		in.fetching = true
		in.work.Go(in.fetchLoop)
	}
	return fmt.Errorf("install up to entry %d: %w: %d of %d are to come", li.Point.Index, errFetching, len(lacking), len(li.Segments))
}

// isReady says whether id is the snapshot that is about to be restored from.
func (in *installs) isReady(id string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.ready != nil && id == (&sink{index: in.ready.Point.Index}).ID()
}

// take returns what is to be restored from, once; nil = the segments that are here.
func (in *installs) take() *storage.Listing {
	in.mu.Lock()
	defer in.mu.Unlock()
	li := in.ready
	in.ready = nil
	return li
}

// fetchLoop fetches what the newest list names and is not here, until all of it is, or it fails: the next attempt of the
// leader's begins anew, behind what was fetched.
func (in *installs) fetchLoop() {
	for {
		in.mu.Lock()
		li := in.wanted
		in.mu.Unlock()
		more, err := in.fetchNext(li)
		if err != nil {
			in.log.Warn("segments are not fetched; it is tried again", "error", err)
		}
		in.mu.Lock()
		if err != nil || !more && li == in.wanted {
			in.fetching = false
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
	}
}

// fetchNext fetches the first segment that is not here, and says whether there was one.
func (in *installs) fetchNext(li *storage.Listing) (bool, error) {
	if err := in.options.Log.Forget(li); err != nil {
		return false, err
	}
	lacking, err := in.options.Log.Lacking(li)
	if err != nil || len(lacking) == 0 {
		return false, err
	}
	in.log.Info("this node is too far behind the leader's log, or empty: segments are fetched", "up_to", li.Point.Index, "segment", lacking[0].Name(), "bytes", lacking[0].Disk, "to_come", len(lacking))
	return true, in.fetch(lacking[0], li)
}

// fetch takes a segment from the leader or, if it cannot give it, from any other member: in a first round from whoever
// has what goes on behind that which is here, in a second one from anybody.
func (in *installs) fetch(want storage.Listed, li *storage.Listing) error {
	sources, err := in.sources(li)
	if err != nil {
		return err
	}
	errs := []error{fmt.Errorf("fetch segment %s", want.Name())}
	for _, anew := range []bool{false, true} {
		for _, from := range sources {
			if err := in.ctx.Err(); err != nil {
				return context.Cause(in.ctx)
			}
			err := in.fetchFrom(want, from, anew)
			if err == nil {
				return nil
			}
			in.log.Warn("a segment did not come whole from a node; it is asked for again", "segment", want.Name(), "from", from.ID, "error", err)
			errs = append(errs, fmt.Errorf("from %s: %w", from.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (in *installs) fetchFrom(want storage.Listed, from raft.Server, anew bool) error {
	c, err := in.dial(in.ctx, from)
	if err != nil {
		return err
	}
	defer c.Close()
	return newSegmentLink(c).fetch(in.ctx, in.options.Log.Receive(want), want, anew)
}

// sources are the members of a list's cut without this node, the leader first.
func (in *installs) sources(li *storage.Listing) (list []raft.Server, err error) {
	_, c, err := parseMembers(li.Point.Meta)
	if err != nil {
		return nil, err
	}
	address, leader := in.raft.Load().LeaderWithID()
	if leader != "" && leader != raft.ServerID(in.options.NodeID) {
		list = append(list, raft.Server{ID: leader, Address: address})
	}
	for _, s := range c.Servers {
		if s.ID != leader && s.ID != raft.ServerID(in.options.NodeID) {
			list = append(list, s)
		}
	}
	return list, nil
}
