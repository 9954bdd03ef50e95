package state

import (
	"math"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// Spec are the settings of a topic; 0 means unlimited for the Max fields.
type Spec struct {
	Partitions uint32 // 0 = 1 when a topic is created
	MaxAgeMs   uint64
	MaxBytes   uint64
	MaxRecords uint64
}

// Topic is one incarnation of a topic. It never changes: an alteration makes a new one.
type Topic struct {
	Name        topic.Name
	Incarnation topic.Incarnation
	CreatedMs   int64 // log time, unix ms
	CreatedBy   string
	Spec        Spec
	Partitions  []topic.PartitionID // by number; read-only
}

// CreateTopic creates a topic. One of the same name and Spec is answered as it is; with
// IfNotExists, whatever its Spec.
type CreateTopic struct {
	Name          topic.Name
	Spec          Spec
	IfNotExists   bool
	By            string
	TopicsMax     uint64 // the proposing node's limit on topics; 0 = only the machine's
	PartitionsMax uint64 // the same for partitions of all topics
}

// Bits of AlterTopic.Mask: which fields of Spec are changed. The values are those of the wire.
const (
	AlterPartitions uint8 = 1 << iota
	AlterMaxAge
	AlterMaxBytes
	AlterMaxRecords

	alterAll = AlterPartitions | AlterMaxAge | AlterMaxBytes | AlterMaxRecords
)

// AlterTopic changes the settings in Mask. Partitions may grow and not shrink; keys of
// the topic then move.
type AlterTopic struct {
	Name          topic.Name
	Incarnation   topic.Incarnation // 0 = any
	Mask          uint8
	Spec          Spec
	By            string
	PartitionsMax uint64 // as in CreateTopic
}

// DeleteTopic removes a topic and its partitions for ever.
type DeleteTopic struct {
	Name        topic.Name
	Incarnation topic.Incarnation // 0 = any
	By          string
}

const (
	createTopicFields = 9
	alterTopicFields  = 9
	deleteTopicFields = 3
)

// AppendCreateTopic encodes c.
func AppendCreateTopic(dst []byte, c *CreateTopic) []byte {
	dst = appendHead(dst, kindCreateTopic, createTopicFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = appendSpec(dst, &c.Spec)
	dst = codec.AppendBool(dst, c.IfNotExists)
	dst = codec.AppendStr(dst, c.By)
	dst = codec.AppendUint(dst, c.TopicsMax)
	return codec.AppendUint(dst, c.PartitionsMax)
}

func decodeCreateTopic(body []byte) (CreateTopic, error) {
	f, err := openFields(body, kindCreateTopic, createTopicFields)
	if err != nil {
		return CreateTopic{}, err
	}
	c := CreateTopic{
		Name:          topic.Name(f.text(topic.MaxBytes)),
		Spec:          f.spec(),
		IfNotExists:   f.Bool(),
		By:            f.text(principalBytesMax),
		TopicsMax:     f.Uint(),
		PartitionsMax: f.Uint(),
	}
	return c, f.close()
}

// AppendAlterTopic encodes c.
func AppendAlterTopic(dst []byte, c *AlterTopic) []byte {
	dst = appendHead(dst, kindAlterTopic, alterTopicFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = codec.AppendUint(dst, uint64(c.Incarnation))
	dst = codec.AppendUint(dst, uint64(c.Mask))
	dst = appendSpec(dst, &c.Spec)
	dst = codec.AppendStr(dst, c.By)
	return codec.AppendUint(dst, c.PartitionsMax)
}

func decodeAlterTopic(body []byte) (AlterTopic, error) {
	f, err := openFields(body, kindAlterTopic, alterTopicFields)
	if err != nil {
		return AlterTopic{}, err
	}
	c := AlterTopic{
		Name:          topic.Name(f.text(topic.MaxBytes)),
		Incarnation:   topic.Incarnation(f.Uint()),
		Mask:          uint8(f.UintMax(uint64(alterAll))),
		Spec:          f.spec(),
		By:            f.text(principalBytesMax),
		PartitionsMax: f.Uint(),
	}
	return c, f.close()
}

// AppendDeleteTopic encodes c.
func AppendDeleteTopic(dst []byte, c *DeleteTopic) []byte {
	dst = appendHead(dst, kindDeleteTopic, deleteTopicFields)
	dst = codec.AppendStr(dst, string(c.Name))
	dst = codec.AppendUint(dst, uint64(c.Incarnation))
	return codec.AppendStr(dst, c.By)
}

func decodeDeleteTopic(body []byte) (DeleteTopic, error) {
	f, err := openFields(body, kindDeleteTopic, deleteTopicFields)
	if err != nil {
		return DeleteTopic{}, err
	}
	c := DeleteTopic{
		Name:        topic.Name(f.text(topic.MaxBytes)),
		Incarnation: topic.Incarnation(f.Uint()),
		By:          f.text(principalBytesMax),
	}
	return c, f.close()
}

func appendSpec(dst []byte, s *Spec) []byte {
	dst = codec.AppendUint(dst, uint64(s.Partitions))
	dst = codec.AppendUint(dst, s.MaxAgeMs)
	dst = codec.AppendUint(dst, s.MaxBytes)
	return codec.AppendUint(dst, s.MaxRecords)
}

func (f *fields) spec() Spec {
	return Spec{Partitions: uint32(f.UintMax(math.MaxUint32)), MaxAgeMs: f.Uint(), MaxBytes: f.Uint(), MaxRecords: f.Uint()}
}
