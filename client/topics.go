package client

import (
	"context"
	"iter"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// TopicSpec are the settings of a topic. For the Max fields 0 means unlimited.
type TopicSpec struct {
	Partitions uint32 // 0 means 1
	MaxAge     time.Duration
	MaxBytes   uint64
	MaxRecords uint64
}

// TopicChange says what Alter changes; nil fields stay as they are. Partitions may
// only grow, and keys then move to other partitions.
type TopicChange struct {
	Partitions *uint32
	MaxAge     *time.Duration
	MaxBytes   *uint64
	MaxRecords *uint64
}

// PartitionInfo is the range of one partition: its records have offsets from Low up
// to, not including, Next.
type PartitionInfo struct {
	ID   uint64 // never reused, also not by a topic of the same name
	Low  int64
	Next int64
}

// TopicInfo describes a topic.
type TopicInfo struct {
	Name        string
	Incarnation uint64 // tells topics of the same name apart
	Created     time.Time
	CreatedBy   string
	Spec        TopicSpec
	Partitions  []PartitionInfo
}

// Topics manages topics. Get it from Client.Topics.
type Topics struct {
	c            *Client
	linearizable bool
}

// Topics returns the part of the client that manages topics.
func (c *Client) Topics() *Topics { return &Topics{c: c} }

// Linearizable returns the same, but Get and List show everything that was acknowledged, to any client, before the call, whichever
// node answers: also records, in PartitionInfo.Next. It costs a round trip to the leader, and one from there to a majority. Without
// a majority the error is ErrNoQuorum.
func (t *Topics) Linearizable() *Topics { return &Topics{t.c, true} }

// Create creates a topic. One that exists is ErrExists.
func (t *Topics) Create(ctx context.Context, name string, spec TopicSpec) (TopicInfo, error) {
	info, _, err := t.create(ctx, &protocol.TopicCreate{Name: name, Spec: spec.wire()}, once)
	return info, err
}

// CreateIfMissing creates a topic unless it exists, whatever its settings, and says
// whether it did.
func (t *Topics) CreateIfMissing(ctx context.Context, name string, spec TopicSpec) (TopicInfo, bool, error) {
	return t.create(ctx, &protocol.TopicCreate{Name: name, Spec: spec.wire(), IfNotExists: true}, again)
}

func (t *Topics) create(ctx context.Context, m *protocol.TopicCreate, r repeat) (TopicInfo, bool, error) {
	answer, err := call[*protocol.Topic](ctx, t.c, "create topic", m.Name, r, m)
	if err != nil {
		return TopicInfo{}, false, err
	}
	t.c.sawApplied(answer.Applied)
	return topicInfo(&answer.Info), answer.Created, nil
}

// Get describes one topic, as of after the last change this client made; see Linearizable.
func (t *Topics) Get(ctx context.Context, name string) (TopicInfo, error) {
	m := &protocol.TopicGet{Name: name, After: t.c.after(t.linearizable)}
	answer, err := call[*protocol.Topic](ctx, t.c, "get topic", name, again, m)
	if err != nil {
		return TopicInfo{}, err
	}
	return topicInfo(&answer.Info), nil
}

// List goes over the topics that match the pattern and that the caller may see, in
// name order, a page at a time. The pattern ">" is all. An error ends it.
func (t *Topics) List(ctx context.Context, pattern string) iter.Seq2[TopicInfo, error] {
	return func(yield func(TopicInfo, error) bool) {
		from := ""
		for more := true; more; {
			m := &protocol.TopicList{Pattern: pattern, From: from, After: t.c.after(t.linearizable)}
			page, err := call[*protocol.Topics](ctx, t.c, "list topics", pattern, again, m)
			if err != nil {
				yield(TopicInfo{}, err)
				return
			}
			for i := range page.Topics {
				from = page.Topics[i].Name
				if !yield(topicInfo(&page.Topics[i]), nil) {
					return
				}
			}
			more = page.More && len(page.Topics) > 0
		}
	}
}

// Alter changes settings and returns the topic as it is then.
func (t *Topics) Alter(ctx context.Context, name string, change TopicChange) (TopicInfo, error) {
	m := &protocol.TopicAlter{Name: name}
	if change.Partitions != nil {
		m.Mask |= protocol.AlterPartitions
		m.Spec.Partitions = *change.Partitions
	}
	if change.MaxAge != nil {
		m.Mask |= protocol.AlterMaxAge
		m.Spec.MaxAgeMs = uint64(change.MaxAge.Milliseconds())
	}
	if change.MaxBytes != nil {
		m.Mask |= protocol.AlterMaxBytes
		m.Spec.MaxBytes = *change.MaxBytes
	}
	if change.MaxRecords != nil {
		m.Mask |= protocol.AlterMaxRecords
		m.Spec.MaxRecords = *change.MaxRecords
	}
	answer, err := call[*protocol.Topic](ctx, t.c, "alter topic", name, again, m)
	if err != nil {
		return TopicInfo{}, err
	}
	t.c.sawApplied(answer.Applied)
	return topicInfo(&answer.Info), nil
}

// Delete removes a topic and its records.
func (t *Topics) Delete(ctx context.Context, name string) error {
	answer, err := call[*protocol.OK](ctx, t.c, "delete topic", name, once, &protocol.TopicDelete{Name: name})
	if err != nil {
		return err
	}
	t.c.sawApplied(answer.Applied)
	return nil
}

func (s TopicSpec) wire() protocol.TopicSpec {
	return protocol.TopicSpec{
		Partitions: s.Partitions, MaxAgeMs: uint64(s.MaxAge.Milliseconds()),
		MaxBytes: s.MaxBytes, MaxRecords: s.MaxRecords,
	}
}

func topicInfo(m *protocol.TopicInfo) TopicInfo {
	info := TopicInfo{
		Name: m.Name, Incarnation: m.Incarnation,
		Created: when(m.CreatedMs), CreatedBy: m.CreatedBy,
		Spec: TopicSpec{
			Partitions: m.Spec.Partitions, MaxAge: time.Duration(m.Spec.MaxAgeMs) * time.Millisecond,
			MaxBytes: m.Spec.MaxBytes, MaxRecords: m.Spec.MaxRecords,
		},
		Partitions: make([]PartitionInfo, len(m.Partitions)),
	}
	for i, p := range m.Partitions {
		info.Partitions[i] = PartitionInfo(p)
	}
	return info
}
