package broker

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// ackWaitDefault is what a group has that asks for nothing else, in ms.
const ackWaitDefault = 30_000

// onGroupCreate creates a group, or finds one with the same settings.
func (c *conn) onGroupCreate(j cluster.Judged, m *protocol.GroupCreate) (protocol.Message, *fault) {
	name, f := c.groupName(policy.Manage, m.Name)
	if f != nil {
		return nil, f
	}
	spec, f := c.groupSpecOf(&m.Spec)
	if f != nil {
		return nil, f
	}
	if m.Start == protocol.StartLatest { // behind all that was acknowledged to anybody
		if f := c.after(protocol.AfterLinearizable); f != nil {
			return nil, f
		}
	}
	starts, f := c.starts(&spec, m)
	if f != nil {
		return nil, f
	}
	r, index, f := c.do(j, state.AppendCreateGroup(nil, &state.CreateGroup{Name: name, Spec: spec, Starts: starts, By: string(c.peer.Principal)}))
	if f != nil {
		if f.code == protocol.CodeLimit {
			f.limit = "groups"
		}
		return nil, f
	}
	return c.groupAnswer(index, r.Created, name)
}

// groupName parses the name of a group and decides on a verb on it.
func (c *conn) groupName(v policy.Verb, text string) (topic.Name, *fault) {
	name, err := topic.ParseName(text)
	if err != nil {
		return "", c.s.faultOf(err)
	}
	if v == policy.Consume {
		return name, c.mayConsume(name)
	}
	return name, c.allowed(v, name)
}

// mayConsume decides on the name of a group; its topics are looked at when they are delivered.
func (c *conn) mayConsume(name topic.Name) *fault {
	if d := c.subject().DecideGroup(name); !d.Allow {
		return c.denied(policy.Consume, "group:"+string(name), d)
	}
	return nil
}

func (c *conn) groupSpecOf(m *protocol.GroupSpec) (state.GroupSpec, *fault) {
	s := state.GroupSpec{AckWaitMs: m.AckWaitMs, MaxDeliver: m.MaxDeliver, BackoffMs: m.BackoffMs, MaxInFlight: m.MaxInFlight}
	if s.AckWaitMs == 0 {
		s.AckWaitMs = ackWaitDefault
	}
	for _, text := range m.Topics {
		p, err := topic.ParsePattern(text)
		if err != nil {
			return s, c.s.faultOf(err)
		}
		s.Topics = append(s.Topics, p)
	}
	return s, nil
}

// starts are the positions of a new group in the partitions that there are.
func (c *conn) starts(spec *state.GroupSpec, m *protocol.GroupCreate) (list []state.Position, f *fault) {
	view := c.s.options.Group.View()
	view.TopicsOf(spec, func(t *state.Topic) bool {
		for _, id := range t.Partitions {
			p, _ := view.Partition(id)
			var at topic.Offset
			if at, f = c.s.startOf(m.Start, m.Value, id, p); f != nil {
				return false
			}
			if list = append(list, state.Position{Partition: id, Offset: at}); len(list) > state.PositionsMax {
				f = limitFault("group_partitions", state.PositionsMax)
				return false
			}
		}
		return true
	})
	if f == nil && m.Start == protocol.StartOffset && len(list) != 1 {
		f = invalid("a start offset needs exactly one partition, the group has %d", len(list))
	}
	return list, f
}

// onGroupGet shows a group and its positions.
func (c *conn) onGroupGet(m *protocol.GroupGet) (protocol.Message, *fault) {
	name, f := c.groupName(policy.Consume, m.Name)
	if f != nil {
		return nil, f
	}
	return c.groupAnswer(0, false, name)
}

// onGroupList lists the groups that the client may consume, a page at a time.
func (c *conn) onGroupList(m *protocol.GroupList) (protocol.Message, *fault) {
	most := int(m.Max)
	if most == 0 || most > pageEntriesMax {
		most = pageEntriesMax
	}
	answer, subject := &protocol.ConsumerGroups{}, c.subject()
	c.s.options.Group.View().Groups(m.From, func(g *state.Group) bool {
		if !subject.DecideGroup(g.Name).Allow {
			return true
		}
		if len(answer.Groups) == most {
			answer.More = true
			return false
		}
		answer.Groups = append(answer.Groups, groupInfo(g))
		return true
	})
	return answer, nil
}

// onGroupPause stops deliveries, or lets them go on.
func (c *conn) onGroupPause(j cluster.Judged, m *protocol.GroupPause) (protocol.Message, *fault) {
	name, f := c.groupName(policy.Manage, m.Name)
	if f != nil {
		return nil, f
	}
	_, index, f := c.do(j, state.AppendAlterGroup(nil, &state.AlterGroup{Name: name, Mask: state.AlterPaused, Paused: m.Paused, By: string(c.peer.Principal)}))
	if f != nil {
		return nil, f
	}
	return c.groupAnswer(index, false, name)
}

// onGroupDelete removes a group.
func (c *conn) onGroupDelete(j cluster.Judged, m *protocol.GroupDelete) (protocol.Message, *fault) {
	name, f := c.groupName(policy.Manage, m.Name)
	if f != nil {
		return nil, f
	}
	_, index, f := c.do(j, state.AppendDeleteGroup(nil, &state.DeleteGroup{Name: name, By: string(c.peer.Principal)}))
	if f != nil {
		return nil, f
	}
	c.s.log.Info("group deleted", "group", name, "by", c.peer.Principal)
	return &protocol.OK{Applied: index}, nil
}

// groupAnswer shows a group as it is now.
func (c *conn) groupAnswer(index uint64, created bool, name topic.Name) (protocol.Message, *fault) {
	view := c.s.options.Group.View()
	g, ok := view.Group(name)
	if !ok {
		return nil, noGroup(name)
	}
	a := &protocol.ConsumerGroup{Applied: index, Created: created, Info: groupInfo(g)}
	view.TopicsOf(&g.Spec, func(t *state.Topic) bool {
		for i, id := range t.Partitions {
			part, _ := view.Partition(id)
			cur, _ := view.Cursor(g.ID, id)
			a.Info.Positions = append(a.Info.Positions, protocol.GroupPosition{Topic: string(t.Name), Partition: uint32(i), Floor: int64(cur.Floor), End: int64(part.Next),
				Pending: uint64(part.Next-cur.Floor) - cur.SettledCount(), Retries: cur.Retries, Aside: uint64(cur.AsideCount()), Lost: cur.Lost})
		}
		return len(a.Info.Positions) < state.PositionsMax
	})
	a.Info.Positions = a.Info.Positions[:min(len(a.Info.Positions), state.PositionsMax)]
	return a, nil
}

func groupInfo(g *state.Group) protocol.GroupInfo {
	i := protocol.GroupInfo{Name: string(g.Name), CreatedMs: g.CreatedMs, CreatedBy: g.CreatedBy, Paused: g.Paused,
		Spec: protocol.GroupSpec{AckWaitMs: g.Spec.AckWaitMs, MaxDeliver: g.Spec.MaxDeliver, BackoffMs: g.Spec.BackoffMs, MaxInFlight: g.Spec.MaxInFlight}}
	for _, p := range g.Spec.Topics {
		i.Spec.Topics = append(i.Spec.Topics, p.String())
	}
	return i
}

func noGroup(name topic.Name) *fault {
	return &fault{code: protocol.CodeNotFound, outcome: protocol.OutcomeRejected, text: fmt.Sprintf("there is no group %s; create it: waxwing group create %s --topic TOPIC", name, name)}
}
