package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/storage"
)

// A sealed segment is raft's snapshot: raft never takes one itself (fsm.Snapshot has nothing new), and the store lists
// exactly one, the newest sealed segment, with the membership as of its cut (reference rules 2 and 3). The members stand
// in the segment's Point.Meta:
//
//	+---------+-------------------------+------------------------------------+
//	| version | index of the            | its bytes, as raft encodes a       |
//	| 0x01    | configuration, 8 B, BE  | configuration                      |
//	+---------+-------------------------+------------------------------------+
const (
	membersVersion = 1
	membersHead    = 9
)

// members is a configuration of the group and the entry that holds it.
type members struct {
	index   uint64
	encoded []byte
}

func (m *members) append(dst []byte) []byte {
	dst = append(dst, membersVersion)
	dst = binary.BigEndian.AppendUint64(dst, m.index)
	return append(dst, m.encoded...)
}

// parseMembers reads Point.Meta.
func parseMembers(b []byte) (m members, c raft.Configuration, err error) {
	if len(b) < membersHead || b[0] != membersVersion {
		return m, c, fmt.Errorf("members of the sealed segment: %w: %d bytes, or a version that this program does not know", ErrCorrupt, len(b))
	}
	m = members{index: binary.BigEndian.Uint64(b[1:]), encoded: b[membersHead:]}
	c, err = decodeConfiguration(m.encoded)
	return m, c, err
}

// decodeConfiguration is raft's, which panics at damage.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("members: %w: %v", ErrCorrupt, p)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// errNoInstall is the answer of a group of one, which nobody fills.
var errNoInstall = errors.New("this node takes no snapshots: it is a group of one")

// snapshots is raft's view of the sealed segments. What it streams is a list of them, never what is in them.
type snapshots struct {
	log *storage.Log
	in  *installs // nil = none are sent or taken
}

// Create begins an install: raft asks for it for nothing else.
func (s snapshots) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, configured uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if s.in == nil || s.in.dial == nil {
		return nil, errNoInstall
	}
	return s.in.create(index, term, c, configured)
}

// List names the newest sealed segment.
func (s snapshots) List() ([]*raft.SnapshotMeta, error) {
	h, ok := s.log.Head()
	if !ok {
		return nil, nil
	}
	m, err := metaOf(&h)
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{m}, nil
}

func metaOf(h *storage.Head) (*raft.SnapshotMeta, error) {
	m, c, err := parseMembers(h.Point.Meta)
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{Version: 1, ID: fmt.Sprintf("segment-%d", h.Number), Index: h.Point.Index, Term: h.Point.Term, Configuration: c, ConfigurationIndex: m.index}, nil
}

// Open gives raft the list of segments, for a node that is too far behind. The state machine, at a start or in an install,
// has no use for the stream: it takes its state from the segment.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if s.in != nil && s.in.isReady(id) {
		return &raft.SnapshotMeta{Version: 1, ID: id}, io.NopCloser(bytes.NewReader(nil)), nil
	}
	list, err := s.List()
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 || list[0].ID != id {
		return nil, nil, fmt.Errorf("there is no sealed segment %q", id)
	}
	var stream []byte
	if s.in != nil && s.in.raft.Load() != nil {
		s.in.lease.open(list[0].Index)
		li, ok := s.log.Listing()
		if !ok || li.Point.Index != list[0].Index {
			return nil, nil, fmt.Errorf("segment %q is not the newest any more", id)
		}
		stream = li.Append(nil)
		list[0].Size = int64(len(stream))
	}
	return list[0], io.NopCloser(bytes.NewReader(stream)), nil
}
