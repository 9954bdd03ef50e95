package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// Survivor is the folder of a stopped node whose cluster has lost its majority for good, locked, and looked at as a whole: every
// batch of every sealed segment, every entry of the raft log, the state that they make, and that no record of it is missing. Its
// Recover makes a cluster of that node alone (docs/decisions/0104). It is used by one goroutine.
type Survivor struct {
	Found Found

	dir     *DataDir
	sealed  func() (storage.Head, bool)
	head    storage.Head // zero: nothing is sealed
	machine *state.Machine
	members members                            // raft's newest configuration
	servers []raft.Server                      // in it
	term    uint64                             // the highest that the node knows of
	tails   map[topic.PartitionID]topic.Offset // first records that only the log has
}

// Progress says what is left to do in a survivor's folder.
type Progress int

// Progresses.
const (
	Lost       Progress = iota // a majority is needed, and would have to be other nodes
	Unfinished                 // a recovery was decided and did not end; Recover ends it
	Alone                      // this node is a majority by itself: there is nothing to recover
)

// Found is what a look at a survivor's folder found.
type Found struct {
	Progress Progress
	Node     string
	Cluster  string // its id; that of the new cluster if a recovery was decided
	Members  []FoundMember
	Shut     []string // nodes that have a tombstone, or get one by a recovery; by id

	First, Last uint64 // entries of the raft log; Last is the sealed point if there is none behind it
	LastTerm    uint64 // of entry Last. Of several survivors the one with the higher (LastTerm, Last) has more
	Segment     uint64 // newest sealed segment; 0 = none
	Sealed      uint64 // entry up to which is sealed
	Partitions  []FoundPartition
}

// FoundMember is a node of raft's newest configuration.
type FoundMember struct {
	Node  string
	Peer  string
	Voter bool
}

// FoundPartition is what the node has of a partition: records First to Next-1.
type FoundPartition struct {
	Topic       string
	Partition   uint32
	First, Next int64
}

// OpenSurvivor locks and looks at the folder of a stopped node. Nothing in it is changed; report hears of each segment once it was read.
// What is damaged, or what is no node of a cluster, is an error that says so.
func OpenSurvivor(ctx context.Context, path string, report func(storage.SegmentStatus)) (*Survivor, error) {
	if _, err := os.Lstat(filepath.Join(path, lockFile)); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is no data folder of a node: it has no file %s", path, lockFile)
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	s := &Survivor{dir: &DataDir{path: path, lock: lock}, tails: map[topic.PartitionID]topic.Offset{}}
	err = s.owner()
	if err == nil {
		err = s.look(ctx, report)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives the folder free.
func (s *Survivor) Close() error { return s.dir.Close() }

func (s *Survivor) storage() string { return filepath.Join(s.dir.path, storageDir) }

// owner finds out whose folder it is.
func (s *Survivor) owner() error {
	if err := errors.Join(s.dir.unfinished(), s.dir.isRemoved()); err != nil {
		return err
	}
	m, err := readNode(filepath.Join(s.dir.path, nodeFile))
	s.Found.Node, s.dir.disk = m.Node, m.Disk
	return err
}

// look reads everything.
func (s *Survivor) look(ctx context.Context, report func(storage.SegmentStatus)) (err error) {
	var has bool
	if s.head, has, err = storage.HeadOf(s.storage()); err == nil {
		s.sealed = func() (storage.Head, bool) { return s.head, has }
		err = s.restore()
	}
	if err == nil {
		err = s.replay(ctx)
	}
	if err == nil {
		err = s.judge()
	}
	if err == nil {
		err = s.verify(ctx, report)
	}
	if err != nil {
		return fmt.Errorf("data folder %s: %w", s.dir.path, err)
	}
	return nil
}

// restore takes the state as of the newest sealed segment.
func (s *Survivor) restore() (err error) {
	h := &s.head
	if _, has := s.sealed(); !has {
		s.machine = state.New(state.Limits{})
		return nil
	}
	if s.machine, err = (&fsm{}).machineOf(storage.CheckpointOf(s.storage()), h.Point.Index, h.Number); err != nil {
		return err
	}
	var c raft.Configuration
	s.members, c, err = parseMembers(h.Point.Meta)
	s.servers = c.Servers
	s.Found.Segment, s.Found.Sealed = h.Number, h.Point.Index
	return err
}

// replay applies the log behind the sealed point: whatever is in it counts as committed, since those who could tell are lost.
func (s *Survivor) replay(ctx context.Context) error {
	log, err := openReading(filepath.Join(s.dir.path, raftDir), s.sealed)
	if err != nil {
		return err
	}
	defer log.wal.Close()
	f := &s.Found
	if err := log.check(); err != nil {
		return err
	}
	if f.First, f.Last, err = log.bounds(); err != nil {
		return err
	}
	if s.term, err = log.GetUint64([]byte(termKey)); err != nil {
		return err
	}
	if err := s.fits(log); err != nil {
		return err
	}
	f.Last, f.LastTerm = max(f.Last, f.Sealed), s.head.Point.Term
	for i := f.Sealed + 1; i <= f.Last; i++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return err
		}
		if err := s.apply(&l); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		f.LastTerm = l.Term
	}
	pending, err := recovering(log)
	if pending {
		f.Progress = Unfinished
	}
	return err
}

// fits refuses a log that the next start would empty, since an install has put other entries in its place.
func (s *Survivor) fits(log *store) error {
	if !s.head.Installed || s.Found.Last == 0 {
		return nil
	}
	var at raft.Log
	if s.Found.Last >= s.head.Point.Index {
		if err := log.GetLog(s.head.Point.Index, &at); err != nil {
			return err
		}
	}
	if at.Term != s.head.Point.Term {
		return errors.New("an install from another node has not ended: start the node once, which ends it without the others, and stop it again")
	}
	return nil
}

// apply is what the state machine of a running node does with an entry, without keeping its records.
func (s *Survivor) apply(l *raft.Log) (err error) {
	switch l.Type {
	case raft.LogConfiguration:
		s.members = members{index: l.Index, encoded: l.Data}
		c, err := decodeConfiguration(l.Data)
		s.servers = c.Servers
		return err
	case raft.LogCommand:
		var e state.Effects
		err = s.machine.Apply(l.Index, l.Data, &e)
		for _, a := range e.Appends {
			if _, there := s.tails[a.Partition]; !there {
				s.tails[a.Partition] = a.Base
			}
		}
	}
	return err
}

// recovering says whether the log has a recovery that has not ended: its last command is a Recover, and what was before it is still
// there. Until a recovery has ended nothing else is proposed.
func recovering(log *store) (bool, error) {
	first, last, err := log.bounds()
	for i := last; err == nil && i > first; i-- {
		var l raft.Log
		if err = log.GetLog(i, &l); err == nil && l.Type == raft.LogCommand {
			return state.IsRecovery(l.Data), nil
		}
	}
	return false, err
}

// judge says whether this is a node of a cluster, and whether it needs a recovery.
func (s *Survivor) judge() error {
	f, view := &s.Found, s.machine.View()
	f.Cluster = view.ClusterID()
	own, others := -1, 0
	for i, server := range s.servers {
		node, address, err := splitAddress(server.Address)
		if err != nil {
			return fmt.Errorf("it is of node %s alone, which is no node of a cluster: there is nothing to recover", f.Node)
		}
		voter := server.Suffrage == raft.Voter
		f.Members = append(f.Members, FoundMember{node, address, voter})
		if node == f.Node {
			own = i
		} else if voter {
			others++
		}
	}
	m, _ := view.Member(f.Node)
	switch {
	case m.Removed:
		return ErrRemoved
	case own < 0 && len(s.servers) == 0:
		return fmt.Errorf("node %s has no log: it never got anything from a cluster", f.Node)
	case own < 0:
		return fmt.Errorf("node %s is no member of the cluster by its own log, and has not all of it: recover on a node that is", f.Node)
	case f.Cluster == "":
		return fmt.Errorf("the cluster of node %s never got its id, so nothing was ever acknowledged: begin anew with empty folders", f.Node)
	case f.Progress == Lost && others == 0:
		f.Progress = Alone
	}
	f.Shut = s.shut(view)
	s.partitions(view)
	return nil
}

// shut lists the nodes that a recovery leaves behind, and those that have a tombstone.
func (s *Survivor) shut(view *state.View) (list []string) {
	for _, m := range view.Members() {
		if m.Node != s.Found.Node && (m.Removed || s.Found.Progress == Lost) {
			list = append(list, m.Node)
		}
	}
	for _, m := range s.Found.Members {
		if m.Node != s.Found.Node && s.Found.Progress == Lost && !slices.Contains(list, m.Node) {
			list = append(list, m.Node)
		}
	}
	slices.Sort(list)
	return list
}

func (s *Survivor) partitions(view *state.View) {
	for p := range view.Partitions() {
		s.Found.Partitions = append(s.Found.Partitions, FoundPartition{string(p.Topic), p.Index, int64(p.Low), int64(p.Next)})
	}
}
