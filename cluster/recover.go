package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// How a cluster whose majority is lost for good goes on with one survivor (docs/decisions/0104):
//
//	1 term       a term above all that the node knows of
//	2 decision   two entries in one append: raft's configuration with this node alone, and a Recover with a Rotate
//	3 seal       the group is started alone, without any port: the log is applied, and the segment cut there is sealed
//	4 cut        the raft log before the cut goes, so that nobody is ever given the entries of the old cluster
//
// The append is atomic: before it the folder is the old cluster's, behind it the new one's. Between 2 and 4 no node starts on it
// (recovering), and another Recover goes on where this one was cut off. Once 3 has ended, the state from which every start
// begins has the new cluster id and the tombstones: there is no moment in which the node would talk to the old cluster.

// errUnfinished says that a recovery was cut off.
var errUnfinished = errors.New("a recovery of this node was decided and did not end; run it again, it goes on where it was: waxwing cluster recover")

// errRecoverRunning refuses the command from whoever would propose it.
var errRecoverRunning = errors.New("a cluster that runs is not recovered: stop the node, and use waxwing cluster recover")

// RecoverOptions are for Survivor.Recover. Zero values mean defaults.
type RecoverOptions struct {
	SegmentBytes int64  // as the node has it
	GuardBytes   uint64 // the same
	Logger       *slog.Logger
}

// Recover makes a cluster of this node alone, with a new id, or ends what an earlier one began; of a node that is a majority by
// itself it changes nothing. What the node has in its log is kept and counts as committed from now on. An error of the disk may
// come before or behind the decision: repeat it with a new Survivor.
func (s *Survivor) Recover(ctx context.Context, o RecoverOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Found.Progress == Alone {
		return nil
	}
	if s.Found.Progress == Lost {
		if err := s.decide(o); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		s.Found.Progress = Unfinished
	}
	if err := s.seal(ctx, o); err != nil {
		return fmt.Errorf("recover: seal what was recovered: %w; run it again", err)
	}
	if err := s.cut(o); err != nil {
		return fmt.Errorf("recover: drop the log of the old cluster: %w; run it again", err)
	}
	s.Found.Progress = Alone
	return nil
}

// decide appends the entries, after it has seen that the state machine takes the command.
func (s *Survivor) decide(o RecoverOptions) error {
	f := &s.Found
	cluster, at := rand.Text(), f.Last+1
	command := state.AppendEntryHeader(nil, time.Now().UnixMilli())
	command = state.AppendCommand(command, state.AppendRecover(nil, &state.Recover{From: f.Cluster, Cluster: cluster, Node: f.Node, Lost: f.Shut}))
	command = state.AppendCommand(command, state.AppendRotate(nil, &state.Rotate{Segment: s.machine.View().Segment()}))
	var e state.Effects
	if err := s.machine.Apply(at+1, command, &e); err != nil {
		return err
	}
	for _, r := range e.Results {
		if !r.Status.Done() {
			return errors.New(r.Text)
		}
	}
	term := max(s.term, f.LastTerm) + 1
	own := raft.Configuration{Servers: s.own()}
	err := s.write(o, func(log *store) error {
		if err := log.SetUint64([]byte(termKey), term); err != nil {
			return err
		}
		return log.StoreLogs([]*raft.Log{
			{Index: at, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(own)},
			{Index: at + 1, Term: term, Type: raft.LogCommand, Data: command},
		})
	})
	if err == nil {
		f.Cluster, f.Last, f.LastTerm, s.members.index = cluster, at+1, term, at
	}
	return err
}

// own is raft's entry of this node, with a vote.
func (s *Survivor) own() (list []raft.Server) {
	for _, server := range s.servers {
		if string(server.ID) == s.Found.Node {
			server.Suffrage = raft.Voter
			list = append(list, server)
		}
	}
	return list
}

// write opens the raft log of the folder, as a start does, for one change.
func (s *Survivor) write(o RecoverOptions, change func(*store) error) error {
	dir := filepath.Join(s.dir.path, raftDir)
	var failed error
	log, err := openStore(dir, int(storage.LogFileBytes(o.segmentBytes())), nil, s.sealed, o.Logger, func(err error) { failed = err }, newMetrics(nil))
	if err != nil {
		return err
	}
	err = log.settle(dir)
	if err == nil {
		err = change(log)
	}
	return errors.Join(err, log.close(), failed)
}

func (o *RecoverOptions) segmentBytes() int64 {
	if o.SegmentBytes == 0 {
		return storage.SegmentBytesDefault
	}
	return o.SegmentBytes
}

// seal runs the group alone until what was recovered is sealed.
func (s *Survivor) seal(ctx context.Context, o RecoverOptions) (err error) {
	var mu sync.Mutex
	var failed error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failed = errors.Join(failed, err)
		cancel(err)
	}
	log, err := storage.Open(storage.Options{Dir: s.storage(), SegmentBytes: o.SegmentBytes, GuardBytes: o.GuardBytes, Replicated: true, Logger: o.Logger, Fail: fail})
	if err != nil {
		return err
	}
	group, err := Open(ctx, Options{Dir: s.dir.path, NodeID: s.Found.Node, Lock: s.dir, Log: log, SegmentBytes: o.segmentBytes(), Logger: o.Logger, Fail: fail, recovers: true})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { _ = group.Run(background) })
	work.Go(func() { _ = log.Run(background) })
	if err = group.Ready(ctx); err == nil {
		err = log.WaitSealed(ctx, group.View().Segment()-1)
	}
	err = errors.Join(err, group.Shutdown(context.Background()))
	end()
	work.Wait()
	err = errors.Join(err, log.Close())
	s.head, _ = log.Head()
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failed)
}

// cut drops the log up to the sealed point, which stays: the entry with the command. From then on nodes start on the folder.
func (s *Survivor) cut(o RecoverOptions) error {
	if s.head.Point.Index <= s.members.index {
		return fmt.Errorf("%w: it is sealed up to entry %d, the recovery is behind", ErrCorrupt, s.head.Point.Index)
	}
	s.sealed = func() (storage.Head, bool) { return s.head, true }
	return s.write(o, func(log *store) error { return log.compact(s.head.Point.Index) })
}
