package broker

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// onTopicCreate creates a topic, or finds the one that is there.
func (c *conn) onTopicCreate(j cluster.Judged, m *protocol.TopicCreate) (protocol.Message, *fault) {
	name, err := topic.ParseName(m.Name)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	if m.Auto {
		return c.onAutoCreate(j, name)
	}
	if f := c.allowed(policy.Manage, name); f != nil {
		return nil, f
	}
	r, index, f := c.create(j, name, specOf(&m.Spec), m.IfNotExists)
	if f != nil {
		return nil, f
	}
	return c.topicAnswer(index, r.Created, r.Topic), nil
}

// onAutoCreate serves a client that wants to publish or subscribe to a topic that may be missing.
func (c *conn) onAutoCreate(j cluster.Judged, name topic.Name) (protocol.Message, *fault) {
	if f := c.mayUse(name); f != nil {
		return nil, f
	}
	if t, ok := c.s.options.Group.View().Topic(name); ok {
		return c.topicAnswer(0, false, t), nil
	}
	r, index, f := c.autoCreate(j, name)
	if f != nil {
		return nil, f
	}
	return c.topicAnswer(index, r.Created, r.Topic), nil
}

// autoCreate creates a missing topic if an auto_create rule of the policy covers it. The
// caller has checked a right to use it.
func (c *conn) autoCreate(j cluster.Judged, name topic.Name) (state.Result, uint64, *fault) {
	spec, ok := c.s.Policy().AutoCreate(name)
	if !ok {
		return state.Result{}, 0, notFound(name)
	}
	return c.create(j, name, state.Spec(spec), true)
}

func (c *conn) create(j cluster.Judged, name topic.Name, spec state.Spec, ifNotExists bool) (state.Result, uint64, *fault) {
	lim := &c.s.options.Limits
	cmd := state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: spec, IfNotExists: ifNotExists, By: string(c.peer.Principal),
		TopicsMax: uint64(lim.Topics), PartitionsMax: uint64(lim.Partitions)})
	r, index, f := c.do(j, cmd)
	if f != nil && f.code == protocol.CodeLimit {
		f.limit = "partitions"
		if c.s.options.Group.View().TopicCount() >= lim.Topics {
			f.limit = "topics"
		}
	}
	return r, index, f
}

func notFound(name topic.Name) *fault {
	return &fault{code: protocol.CodeNotFound, text: fmt.Sprintf("there is no topic %s, and the policy does not create it by itself; create it first", name)}
}

// mayUse asks for any right that lets a client see a topic.
func (c *conn) mayUse(name topic.Name) *fault {
	subject := c.subject()
	for _, v := range []policy.Verb{policy.Subscribe, policy.Publish, policy.Manage, policy.Consume} {
		if subject.Decide(v, name).Allow {
			return nil
		}
	}
	return c.denied(policy.Subscribe, string(name), subject.Decide(policy.Subscribe, name))
}

// onTopicGet shows one topic.
func (c *conn) onTopicGet(m *protocol.TopicGet) (protocol.Message, *fault) {
	name, err := topic.ParseName(m.Name)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	if f := c.mayUse(name); f != nil {
		return nil, f
	}
	t, ok := c.s.options.Group.View().Topic(name)
	if !ok {
		return nil, &fault{code: protocol.CodeNotFound, text: fmt.Sprintf("there is no topic %s; create it: waxwing topic create %s", name, name)}
	}
	return c.topicAnswer(0, false, t), nil
}

// onTopicList lists the topics that the client may use, a page at a time.
func (c *conn) onTopicList(m *protocol.TopicList) (protocol.Message, *fault) {
	if m.Pattern == "" {
		m.Pattern = ">"
	}
	pattern, err := topic.ParsePattern(m.Pattern)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	most := int(m.Max)
	if most == 0 || most > pageEntriesMax {
		most = pageEntriesMax
	}
	answer, bytes := &protocol.Topics{}, 0
	subject := c.subject()
	c.s.options.Group.View().Topics(m.From, func(t *state.Topic) bool {
		if !pattern.Match(t.Name) || !mayUse(subject, t.Name) {
			return true
		}
		if len(answer.Topics) == most || bytes > pageBytesMax {
			answer.More = true
			return false
		}
		bytes += 64 + len(t.Name) + len(t.CreatedBy) + 30*len(t.Partitions)
		answer.Topics = append(answer.Topics, c.topicInfo(t))
		return true
	})
	return answer, nil
}

// mayUse is conn.mayUse without an answer to a denial.
func mayUse(subject *policy.Subject, name topic.Name) bool {
	return subject.Decide(policy.Subscribe, name).Allow || subject.Decide(policy.Publish, name).Allow ||
		subject.Decide(policy.Manage, name).Allow || subject.Decide(policy.Consume, name).Allow
}

// onTopicAlter changes settings.
func (c *conn) onTopicAlter(j cluster.Judged, m *protocol.TopicAlter) (protocol.Message, *fault) {
	name, err := topic.ParseName(m.Name)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	if f := c.allowed(policy.Manage, name); f != nil {
		return nil, f
	}
	const known = protocol.AlterPartitions | protocol.AlterMaxAge | protocol.AlterMaxBytes | protocol.AlterMaxRecords
	if m.Mask == 0 || m.Mask&^known != 0 {
		return nil, invalid("the mask %#02x of what to change is empty or unknown", m.Mask)
	}
	r, index, f := c.do(j, state.AppendAlterTopic(nil, &state.AlterTopic{Name: name, Mask: m.Mask, Spec: specOf(&m.Spec), By: string(c.peer.Principal), PartitionsMax: uint64(c.s.options.Limits.Partitions)}))
	if f != nil {
		if f.code == protocol.CodeLimit {
			f.limit = "partitions"
		}
		return nil, f
	}
	return c.topicAnswer(index, false, r.Topic), nil
}

// onTopicDelete removes a topic.
func (c *conn) onTopicDelete(j cluster.Judged, m *protocol.TopicDelete) (protocol.Message, *fault) {
	name, err := topic.ParseName(m.Name)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	if f := c.allowed(policy.Manage, name); f != nil {
		return nil, f
	}
	_, index, f := c.do(j, state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: name, Incarnation: topic.Incarnation(m.Incarnation), By: string(c.peer.Principal)}))
	if f != nil {
		return nil, f
	}
	c.s.log.Info("topic deleted", "topic", name, "by", c.peer.Principal)
	return &protocol.OK{Applied: index}, nil
}

func specOf(s *protocol.TopicSpec) state.Spec {
	return state.Spec{Partitions: s.Partitions, MaxAgeMs: s.MaxAgeMs, MaxBytes: s.MaxBytes, MaxRecords: s.MaxRecords}
}

func (c *conn) topicAnswer(index uint64, created bool, t *state.Topic) *protocol.Topic {
	return &protocol.Topic{Applied: index, Created: created, Info: c.topicInfo(t)}
}

func (c *conn) topicInfo(t *state.Topic) protocol.TopicInfo {
	info := protocol.TopicInfo{Name: string(t.Name), Incarnation: uint64(t.Incarnation), CreatedMs: t.CreatedMs, CreatedBy: t.CreatedBy,
		Spec: protocol.TopicSpec{Partitions: uint32(len(t.Partitions)), MaxAgeMs: t.Spec.MaxAgeMs, MaxBytes: t.Spec.MaxBytes, MaxRecords: t.Spec.MaxRecords}}
	view := c.s.options.Group.View()
	for _, id := range t.Partitions {
		p, _ := view.Partition(id)
		info.Partitions = append(info.Partitions, protocol.PartitionInfo{ID: uint64(id), Low: int64(p.Low), Next: int64(p.Next)})
	}
	return info
}
