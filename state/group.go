package state

import (
	"fmt"
	"math"
	"slices"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// GroupID names one creation of a group; ids are never reused.
type GroupID uint64

// GroupSpec are the settings of a group.
type GroupSpec struct {
	Topics      []topic.Pattern // whose partitions it consumes; no two are equal
	KeyOrder    bool            // records of one key go to one member at a time
	AckWaitMs   uint64          // how long a member may hold a record
	MaxDeliver  uint64          // deliveries of a record before it is dead; 0 = no end
	BackoffMs   []uint64        // delay before delivery 2, 3, ...; the last one stays; none = at once
	DeadLetter  topic.Name      // where dead records go; "" = they are put aside
	MaxInFlight uint64          // records that all members together hold at most; 0 = no limit of its own
}

func (s *GroupSpec) equal(o *GroupSpec) bool {
	return slices.Equal(s.Topics, o.Topics) && s.KeyOrder == o.KeyOrder && s.AckWaitMs == o.AckWaitMs && s.MaxDeliver == o.MaxDeliver &&
		slices.Equal(s.BackoffMs, o.BackoffMs) && s.DeadLetter == o.DeadLetter && s.MaxInFlight == o.MaxInFlight
}

// Matches says whether the group consumes a topic.
func (s *GroupSpec) Matches(name topic.Name) bool {
	return slices.ContainsFunc(s.Topics, func(p topic.Pattern) bool { return p.Match(name) })
}

// Limits of a group's settings.
const (
	groupTopicsMax  = 64
	groupBackoffMax = 32
	durationMsMax   = 365 * 24 * 3_600_000
)

// fault says what is wrong with the settings, or "".
func (s *GroupSpec) fault() string {
	switch {
	case len(s.Topics) == 0:
		return "a group needs a topic"
	case s.AckWaitMs == 0 || s.AckWaitMs > durationMsMax:
		return "the time to acknowledge must be from 1 ms to a year"
	}
	for i, p := range s.Topics {
		if slices.Contains(s.Topics[:i], p) {
			return fmt.Sprintf("topic %s stands there twice", p)
		}
	}
	if slices.ContainsFunc(s.BackoffMs, func(ms uint64) bool { return ms > durationMsMax }) {
		return "a delay is longer than a year"
	}
	if s.DeadLetter == "" {
		return ""
	}
	if _, err := topic.ParseName(string(s.DeadLetter)); err != nil {
		return err.Error()
	}
	if s.Matches(s.DeadLetter) {
		return fmt.Sprintf("the group would consume its own dead letters in %s", s.DeadLetter)
	}
	return ""
}

// Group is one consumer group. It never changes: an alteration makes a new one.
type Group struct {
	Name      topic.Name
	ID        GroupID
	CreatedMs int64 // log time, unix ms
	CreatedBy string
	Spec      GroupSpec // read-only
	Paused    bool      // nothing is delivered
	Resets    uint64    // how often its positions were set: a settlement from before does not count
}

// Position is a place in a partition.
type Position struct {
	Partition topic.PartitionID
	Offset    topic.Offset
}

// PositionsMax is the most positions of one command.
const PositionsMax = 10_000

// CreateGroup creates a group. One of the same name and Spec is answered as it is. A partition that Starts does not name
// is consumed from offset 0, as one that is born later.
type CreateGroup struct {
	Name      topic.Name
	Spec      GroupSpec
	Starts    []Position
	By        string
	GroupsMax uint64 // the proposing node's limit; 0 = only the machine's
}

// Bits of AlterGroup.Mask. The values are those of the wire.
const (
	AlterAckWait uint8 = 1 << iota
	AlterMaxDeliver
	AlterBackoff
	AlterDeadLetter
	AlterMaxInFlight
	AlterPaused

	alterGroupAll = AlterAckWait | AlterMaxDeliver | AlterBackoff | AlterDeadLetter | AlterMaxInFlight | AlterPaused
)

// AlterGroup changes the settings in Mask. Topics and order cannot be changed.
type AlterGroup struct {
	Name   topic.Name
	Mask   uint8
	Spec   GroupSpec
	Paused bool
	By     string
}

// ResetGroup makes a group go on at positions, backward or forward. What it knew of those partitions is forgotten.
type ResetGroup struct {
	Name   topic.Name
	Resets uint64 // of the group when the positions were chosen
	Starts []Position
	By     string
}

// DeleteGroup removes a group and all that is known of it.
type DeleteGroup struct {
	Name topic.Name
	By   string
}

const (
	createGroupFields = 11
	alterGroupFields  = 11
	resetGroupFields  = 4
	deleteGroupFields = 2
)

// AppendCreateGroup encodes c.
func AppendCreateGroup(dst []byte, c *CreateGroup) []byte {
	dst = appendHead(dst, kindCreateGroup, createGroupFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = appendGroupSpec(dst, &c.Spec)
	dst = codec.AppendBin(dst, packPositions(c.Starts))
	dst = codec.AppendStr(dst, c.By)
	return codec.AppendUint(dst, c.GroupsMax)
}

func decodeCreateGroup(body []byte) (CreateGroup, error) {
	f, err := openFields(body, kindCreateGroup, createGroupFields)
	if err != nil {
		return CreateGroup{}, err
	}
	c := CreateGroup{Name: topic.Name(f.text(topic.MaxBytes)), Spec: readGroupSpec(&f.Cursor), Starts: readPositions(&f.Cursor), By: f.text(principalBytesMax), GroupsMax: f.Uint()}
	return c, f.close()
}

// AppendAlterGroup encodes c.
func AppendAlterGroup(dst []byte, c *AlterGroup) []byte {
	dst = appendHead(dst, kindAlterGroup, alterGroupFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = codec.AppendUint(dst, uint64(c.Mask))
	dst = appendGroupSpec(dst, &c.Spec)
	dst = codec.AppendBool(dst, c.Paused)
	return codec.AppendStr(dst, c.By)
}

func decodeAlterGroup(body []byte) (AlterGroup, error) {
	f, err := openFields(body, kindAlterGroup, alterGroupFields)
	if err != nil {
		return AlterGroup{}, err
	}
	c := AlterGroup{Name: topic.Name(f.text(topic.MaxBytes)), Mask: uint8(f.UintMax(uint64(alterGroupAll))), Spec: readGroupSpec(&f.Cursor), Paused: f.Bool(), By: f.text(principalBytesMax)}
	return c, f.close()
}

// AppendResetGroup encodes c.
func AppendResetGroup(dst []byte, c *ResetGroup) []byte {
	dst = appendHead(dst, kindResetGroup, resetGroupFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = codec.AppendUint(dst, c.Resets)
	dst = codec.AppendBin(dst, packPositions(c.Starts))
	return codec.AppendStr(dst, c.By)
}

func decodeResetGroup(body []byte) (ResetGroup, error) {
	f, err := openFields(body, kindResetGroup, resetGroupFields)
	if err != nil {
		return ResetGroup{}, err
	}
	c := ResetGroup{Name: topic.Name(f.text(topic.MaxBytes)), Resets: f.Uint(), Starts: readPositions(&f.Cursor), By: f.text(principalBytesMax)}
	return c, f.close()
}

// AppendDeleteGroup encodes c.
func AppendDeleteGroup(dst []byte, c *DeleteGroup) []byte {
	dst = appendHead(dst, kindDeleteGroup, deleteGroupFields)
	return codec.AppendStr(codec.AppendStr(dst, string(c.Name)), c.By)
}

func decodeDeleteGroup(body []byte) (DeleteGroup, error) {
	f, err := openFields(body, kindDeleteGroup, deleteGroupFields)
	if err != nil {
		return DeleteGroup{}, err
	}
	c := DeleteGroup{Name: topic.Name(f.text(topic.MaxBytes)), By: f.text(principalBytesMax)}
	return c, f.close()
}

// appendGroupSpec writes seven fields.
func appendGroupSpec(dst []byte, s *GroupSpec) []byte {
	dst = codec.AppendArray(dst, len(s.Topics))
	for _, p := range s.Topics {
		dst = codec.AppendStr(dst, p.String())
	}
	dst = codec.AppendBool(dst, s.KeyOrder)
	dst = codec.AppendUint(dst, s.AckWaitMs)
	dst = codec.AppendUint(dst, s.MaxDeliver)
	dst = codec.AppendArray(dst, len(s.BackoffMs))
	for _, ms := range s.BackoffMs {
		dst = codec.AppendUint(dst, ms)
	}
	dst = codec.AppendStr(dst, string(s.DeadLetter))
	return codec.AppendUint(dst, s.MaxInFlight)
}

func readGroupSpec(c *codec.Cursor) (s GroupSpec) {
	for range c.Array(groupTopicsMax) {
		p, err := topic.ParsePattern(string(c.Str(topic.MaxBytes)))
		if err != nil {
			c.Fail(err)
			return s
		}
		s.Topics = append(s.Topics, p)
	}
	s.KeyOrder, s.AckWaitMs, s.MaxDeliver = c.Bool(), c.Uint(), c.Uint()
	for range c.Array(groupBackoffMax) {
		s.BackoffMs = append(s.BackoffMs, c.Uint())
	}
	s.DeadLetter, s.MaxInFlight = topic.Name(c.Str(topic.MaxBytes)), c.Uint()
	return s
}

// packPositions writes pairs, which are carried as one bin.
func packPositions(list []Position) (packed []byte) {
	for _, p := range list {
		packed = codec.AppendUint(codec.AppendUint(packed, uint64(p.Partition)), uint64(p.Offset))
	}
	return packed
}

func readPositions(c *codec.Cursor) (list []Position) {
	pairs := codec.NewCursor(c.Bin(math.MaxInt32))
	for pairs.More() {
		if len(list) == PositionsMax {
			c.Fail(codec.ErrCount)
			return nil
		}
		list = append(list, Position{topic.PartitionID(pairs.Uint()), topic.Offset(pairs.UintMax(math.MaxInt64))})
	}
	if err := pairs.Err(); err != nil {
		c.Fail(err)
	}
	return list
}
