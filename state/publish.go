package state

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// Publish appends one batch to one partition. The leader has validated Records with
// batch.Scan (Info is its result) and has asked policy.
type Publish struct {
	Partition     topic.PartitionID
	Incarnation   topic.Incarnation // 0 = any
	Producer      [16]byte
	Epoch         uint64
	Sequence      uint64 // of the first record; the first batch of a producer and epoch in a partition has 0
	Info          batch.Info
	Principal     string
	SPKI          [32]byte
	PolicyVersion uint64
	Records       []byte
}

const publishFields = 12

// PublishOverheadBytes is the most that AppendPublish adds to principal and records.
const PublishOverheadBytes = 2 + 1 + 7*9 + 5 + 18 + 34 + 3 + 5

// AppendPublish encodes c.
func AppendPublish(dst []byte, c *Publish) []byte {
	dst = appendHead(dst, kindPublish, publishFields)
	dst = codec.AppendUint(dst, uint64(c.Partition))
	dst = codec.AppendUint(dst, uint64(c.Incarnation))
	dst = codec.AppendBin(dst, c.Producer[:])
	dst = codec.AppendUint(dst, c.Epoch)
	dst = codec.AppendUint(dst, c.Sequence)
	dst = codec.AppendUint(dst, uint64(c.Info.Count))
	dst = codec.AppendUint(dst, uint64(c.Info.Flags))
	dst = codec.AppendUint(dst, c.Info.MinTTLMs)
	dst = codec.AppendStr(dst, c.Principal)
	dst = codec.AppendBin(dst, c.SPKI[:])
	dst = codec.AppendUint(dst, c.PolicyVersion)
	return codec.AppendBin(dst, c.Records)
}

// publish is a decoded Publish whose slices point into the entry.
type publish struct {
	partition     topic.PartitionID
	incarnation   topic.Incarnation
	producer      [16]byte
	epoch         uint64
	sequence      uint64
	info          batch.Info
	principal     []byte
	spki          [32]byte
	policyVersion uint64
	records       []byte
}

// What a batch may say of itself (DESIGN section 4).
const (
	countMax   = 65_535
	knownFlags = batch.HasKeys | batch.HasTTL
)

// decode reads the fields in place. It skips the full scan of the other commands: the
// cursor bounds every read, and the records are carried unread.
func (p *publish) decode(body []byte) error {
	c := codec.NewCursor(body)
	if n := c.Array(publishFields); c.Err() == nil && n != publishFields {
		return fmt.Errorf("%w: publish has %d fields, wants %d", ErrMalformed, n, publishFields)
	}
	p.partition = topic.PartitionID(c.Uint())
	p.incarnation = topic.Incarnation(c.Uint())
	producer := c.Bin(16)
	p.epoch = c.Uint()
	p.sequence = c.Uint()
	p.info.Count = uint32(c.UintMax(countMax))
	p.info.Flags = batch.Flags(c.UintMax(uint64(knownFlags)))
	p.info.MinTTLMs = c.Uint()
	p.principal = c.Str(principalBytesMax)
	spki := c.Bin(32)
	p.policyVersion = c.Uint()
	p.records = c.Bin(len(body))
	if err := c.Err(); err != nil {
		return fmt.Errorf("%w: publish: %w", ErrMalformed, err)
	}
	switch {
	case len(c.Rest()) != 0:
		return fmt.Errorf("%w: publish: %d bytes behind its fields", ErrMalformed, len(c.Rest()))
	case len(producer) != 16 || len(spki) != 32:
		return fmt.Errorf("%w: publish: producer of %d and SPKI hash of %d bytes", ErrMalformed, len(producer), len(spki))
	case p.info.Count == 0 || int(p.info.Count) > len(p.records):
		return fmt.Errorf("%w: publish: %d records in %d bytes", ErrMalformed, p.info.Count, len(p.records))
	case len(p.principal) == 0:
		return fmt.Errorf("%w: publish without a principal", ErrMalformed)
	}
	copy(p.producer[:], producer)
	copy(p.spki[:], spki)
	return nil
}

// publish applies a PUBLISH command: producer check, offset, stored batch.
func (m *Machine) publish(body []byte, e *Effects) (Result, error) {
	var c publish
	if err := c.decode(body); err != nil {
		return Result{}, err
	}
	part := m.parts[c.partition]
	switch {
	case part == nil:
		return Result{Status: StatusNotFound, Text: "the partition does not exist; its topic was deleted"}, nil
	case c.incarnation != 0 && c.incarnation != part.incarnation:
		return Result{Status: StatusRecreated, Incarnation: part.incarnation, Text: "the topic was deleted and created anew"}, nil
	}
	p := m.producers.find(c.principal, c.producer)
	if r, ok := p.window(part).verdict(&c); !ok {
		if r.Status == StatusDuplicate {
			m.producers.touch(p, m.next.timeMs)
		}
		r.Incarnation = part.incarnation
		return r, nil
	}
	return m.append(part, m.producers.use(p, part, &c, m.next.timeMs), &c, e), nil
}

// append gives the batch its offsets and builds the stored form.
func (m *Machine) append(part *partition, p *producer, c *publish, e *Effects) Result {
	meta := batch.Meta{
		Flags:         c.info.Flags,
		Count:         c.info.Count,
		MinTTLMs:      c.info.MinTTLMs,
		Publisher:     p.key.principal,
		SPKI:          c.spki,
		PolicyVersion: c.policyVersion,
		Producer:      c.producer,
		Epoch:         c.epoch,
		Sequence:      c.sequence,
	}
	m.store(part, &meta, c.records, e)
	return Result{Status: StatusOK, Offset: meta.Base, TimeMs: meta.TimeMs, Incarnation: part.incarnation}
}

// store gives a batch its place and time and adds it to the effects.
func (m *Machine) store(part *partition, meta *batch.Meta, records []byte, e *Effects) {
	meta.Partition, meta.Base, meta.TimeMs = part.id, part.next, m.next.timeMs
	e.Appends = append(e.Appends, Append{
		Partition: part.id,
		Base:      meta.Base,
		Count:     meta.Count,
		TimeMs:    meta.TimeMs,
		Raw:       m.encode(meta, records),
	})
	part.next += topic.Offset(meta.Count)
	m.markDirty(part)
}

// encode builds the stored batch in memory of its own. The header goes into scratch
// first, so that a large batch grows out of it into an exact and unzeroed allocation.
func (m *Machine) encode(meta *batch.Meta, records []byte) []byte {
	raw := batch.Append(m.scratch[:0], meta, records)
	if &raw[0] == &m.scratch[0] {
		return append([]byte(nil), raw...)
	}
	return raw
}
