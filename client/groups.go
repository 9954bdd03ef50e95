package client

import (
	"context"
	"iter"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// GroupSpec are the settings of a consumer group. Topics is required.
type GroupSpec struct {
	Topics      []string        // names or patterns, at most 64
	AckWait     time.Duration   // how long a member may hold a record; 0 = 30 s
	MaxDeliver  uint64          // deliveries before a record is put aside; 0 = no end
	Backoff     []time.Duration // delay before delivery 2, 3, ...; the last one stays; none = at once
	MaxInFlight uint64          // records that all members together hold; 0 = no limit of its own
}

// GroupPosition is what a group knows of a partition.
type GroupPosition struct {
	Topic     string
	Partition uint32
	Floor     int64  // every record below is settled
	End       int64  // next offset to be written
	Pending   uint64 // records that are not settled
	Retries   uint64 // deliveries that failed
	Aside     uint64 // records that were put aside
	Lost      uint64 // records that retention took before they were settled
}

// GroupInfo describes a group. Positions are those of Get, Create and Pause; List leaves them out.
type GroupInfo struct {
	Name      string
	Created   time.Time
	CreatedBy string
	Spec      GroupSpec
	Paused    bool
	Positions []GroupPosition
}

// Groups manages consumer groups. Get it from Client.Groups.
type Groups struct{ c *Client }

// Groups returns the part of the client that manages consumer groups.
func (c *Client) Groups() *Groups { return &Groups{c} }

// Create makes sure that a group exists, and says whether it did not. One with other settings is ErrExists. from says where
// it begins in the partitions that there are; partitions that are born later are consumed from their first record.
func (g *Groups) Create(ctx context.Context, name string, spec GroupSpec, from Start) (GroupInfo, bool, error) {
	m := &protocol.GroupCreate{Name: name, Spec: protocol.GroupSpec{Topics: spec.Topics, AckWaitMs: uint64(spec.AckWait.Milliseconds()),
		MaxDeliver: spec.MaxDeliver, MaxInFlight: spec.MaxInFlight}}
	for _, d := range spec.Backoff {
		m.Spec.BackoffMs = append(m.Spec.BackoffMs, uint64(d.Milliseconds()))
	}
	m.Start, m.Value = from.wire(time.Now())
	answer, err := call[*protocol.ConsumerGroup](ctx, g.c, "create group", name, again, m)
	if err != nil {
		return GroupInfo{}, false, err
	}
	g.c.sawApplied(answer.Applied)
	return groupInfo(&answer.Info), answer.Created, nil
}

// Get describes one group, as of after the last change this client made.
func (g *Groups) Get(ctx context.Context, name string) (GroupInfo, error) {
	answer, err := call[*protocol.ConsumerGroup](ctx, g.c, "get group", name, again, &protocol.GroupGet{Name: name, After: g.c.after(false)})
	if err != nil {
		return GroupInfo{}, err
	}
	return groupInfo(&answer.Info), nil
}

// List goes over the groups that the caller may consume, in name order, a page at a time. An error ends it.
func (g *Groups) List(ctx context.Context) iter.Seq2[GroupInfo, error] {
	return func(yield func(GroupInfo, error) bool) {
		from := ""
		for more := true; more; {
			page, err := call[*protocol.ConsumerGroups](ctx, g.c, "list groups", "", again, &protocol.GroupList{From: from, After: g.c.after(false)})
			if err != nil {
				yield(GroupInfo{}, err)
				return
			}
			for i := range page.Groups {
				from = page.Groups[i].Name
				if !yield(groupInfo(&page.Groups[i]), nil) {
					return
				}
			}
			more = page.More && len(page.Groups) > 0
		}
	}
}

// Pause stops deliveries, or with false lets them go on. What members hold they may still settle.
func (g *Groups) Pause(ctx context.Context, name string, paused bool) (GroupInfo, error) {
	answer, err := call[*protocol.ConsumerGroup](ctx, g.c, "pause group", name, again, &protocol.GroupPause{Name: name, Paused: paused})
	if err != nil {
		return GroupInfo{}, err
	}
	g.c.sawApplied(answer.Applied)
	return groupInfo(&answer.Info), nil
}

// Delete removes a group and what it knows.
func (g *Groups) Delete(ctx context.Context, name string) error {
	answer, err := call[*protocol.OK](ctx, g.c, "delete group", name, once, &protocol.GroupDelete{Name: name})
	if err != nil {
		return err
	}
	g.c.sawApplied(answer.Applied)
	return nil
}

func groupInfo(m *protocol.GroupInfo) GroupInfo {
	i := GroupInfo{Name: m.Name, Created: when(m.CreatedMs), CreatedBy: m.CreatedBy, Paused: m.Paused, Positions: make([]GroupPosition, len(m.Positions)),
		Spec: GroupSpec{Topics: m.Spec.Topics, AckWait: time.Duration(m.Spec.AckWaitMs) * time.Millisecond, MaxDeliver: m.Spec.MaxDeliver, MaxInFlight: m.Spec.MaxInFlight}}
	for _, ms := range m.Spec.BackoffMs {
		i.Spec.Backoff = append(i.Spec.Backoff, time.Duration(ms)*time.Millisecond)
	}
	for n, p := range m.Positions {
		i.Positions[n] = GroupPosition(p)
	}
	return i
}
