package state

import (
	"fmt"
	"math"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// SettleOp says how a delivery ended. Values are stable for ever.
type SettleOp byte

// How deliveries end.
const (
	SettleAck   SettleOp = 1 // done: records Offset to Offset+Count-1
	SettleRetry SettleOp = 2 // not done, whether refused, expired or released: delivery number Attempt of Count records; again after DelayMs
	SettleDead  SettleOp = 3 // never to be delivered again: one record
)

// Settlement is what happened to consecutive records of a partition.
type Settlement struct {
	Op        SettleOp
	Partition topic.PartitionID
	Offset    topic.Offset
	Count     uint32 // 1 for SettleDead
	Attempt   uint64 // number of the delivery, from 1; 0 for SettleAck
	DelayMs   uint64 // SettleRetry
	Letter    *Letter
}

// Letter is the last word on a dead record. With a Target it is appended there in the same entry; without one, or if
// the target is gone, the record is put aside.
type Letter struct {
	Reason  string
	Target  topic.PartitionID // 0 = none
	Info    batch.Info
	Origin  batch.Origin // Reason and Count are set by the machine
	Records []byte       // as batch.Scan accepts them
}

// Settle settles deliveries of a group: all of them, or none with a reason. What is settled already stays so; records
// of partitions that are gone, or that retention took, are passed over.
type Settle struct {
	Group         topic.Name
	ID            GroupID
	Resets        uint64
	By            string // principal of the member
	SPKI          [32]byte
	PolicyVersion uint64
	Items         []Settlement
}

// SettleItemsMax is the most settlements of one command.
const SettleItemsMax = 10_000

const settleFields = 7

// AppendSettle encodes c: the settlements are one bin.
func AppendSettle(dst []byte, c *Settle) []byte {
	dst = appendHead(dst, kindSettle, settleFields)
	dst = codec.AppendStr(dst, string(c.Group))
	dst = codec.AppendUint(dst, uint64(c.ID))
	dst = codec.AppendUint(dst, c.Resets)
	dst = codec.AppendStr(dst, c.By)
	dst = codec.AppendBin(dst, c.SPKI[:])
	dst = codec.AppendUint(dst, c.PolicyVersion)
	var packed []byte
	for i := range c.Items {
		packed = c.Items[i].append(packed)
	}
	return codec.AppendBin(dst, packed)
}

func (s *Settlement) append(dst []byte) []byte {
	for _, n := range []uint64{uint64(s.Op), uint64(s.Partition), uint64(s.Offset), uint64(s.Count), s.Attempt} {
		dst = codec.AppendUint(dst, n)
	}
	switch s.Op {
	case SettleRetry:
		dst = codec.AppendUint(dst, s.DelayMs)
	case SettleDead:
		dst = s.Letter.append(dst)
	}
	return dst
}

func (l *Letter) append(dst []byte) []byte {
	dst = codec.AppendStr(dst, cutText(l.Reason, reasonBytesMax))
	dst = codec.AppendUint(dst, uint64(l.Target))
	if l.Target == 0 {
		return dst
	}
	for _, n := range []uint64{uint64(l.Info.Flags), l.Info.MinTTLMs, uint64(l.Origin.Partition), uint64(l.Origin.Offset), uint64(l.Origin.TimeMs)} {
		dst = codec.AppendUint(dst, n)
	}
	dst = codec.AppendStr(codec.AppendStr(dst, l.Origin.Topic), l.Origin.Publisher)
	return codec.AppendBin(codec.AppendBin(dst, l.Origin.SPKI[:]), l.Records)
}

// decodeSettle reads a command. Records of letters point into the entry.
func decodeSettle(body []byte) (Settle, error) {
	f, err := openFields(body, kindSettle, settleFields)
	if err != nil {
		return Settle{}, err
	}
	c := Settle{Group: topic.Name(f.text(topic.MaxBytes)), ID: GroupID(f.Uint()), Resets: f.Uint(), By: f.text(principalBytesMax)}
	f.Fixed(c.SPKI[:])
	c.PolicyVersion = f.Uint()
	items := codec.NewCursor(f.Bin(len(body)))
	if err := f.close(); err != nil {
		return Settle{}, err
	}
	for items.More() {
		if len(c.Items) == SettleItemsMax {
			return Settle{}, fmt.Errorf("%w: more than %d settlements", ErrMalformed, SettleItemsMax)
		}
		c.Items = append(c.Items, readSettlement(&items))
	}
	if err := items.Err(); err != nil {
		return Settle{}, fmt.Errorf("%w: settle: %w", ErrMalformed, err)
	}
	return c, nil
}

func readSettlement(c *codec.Cursor) Settlement {
	s := Settlement{Op: SettleOp(c.UintMax(uint64(SettleDead))), Partition: topic.PartitionID(c.Uint()), Offset: topic.Offset(c.UintMax(math.MaxInt64)),
		Count: uint32(c.UintMax(aheadMax)), Attempt: c.Uint()}
	switch s.Op {
	case SettleAck:
	case SettleRetry:
		s.DelayMs = c.UintMax(durationMsMax)
		if s.Count > countMax {
			c.Fail(codec.ErrCount)
		}
	case SettleDead:
		s.Letter = readLetter(c)
		if s.Count != 1 {
			c.Fail(codec.ErrCount)
		}
	default:
		c.Fail(codec.ErrRange)
	}
	if s.Count == 0 {
		c.Fail(codec.ErrCount)
	}
	return s
}

func readLetter(c *codec.Cursor) *Letter {
	l := &Letter{Reason: string(c.Str(reasonBytesMax)), Target: topic.PartitionID(c.Uint())}
	if l.Target == 0 {
		return l
	}
	l.Info = batch.Info{Count: 1, Flags: batch.Flags(c.UintMax(uint64(knownFlags))), MinTTLMs: c.Uint()}
	l.Origin = batch.Origin{Partition: uint32(c.UintMax(math.MaxUint32)), Offset: topic.Offset(c.UintMax(math.MaxInt64)), TimeMs: int64(c.UintMax(timeMsMax)),
		Topic: string(c.Str(topic.MaxBytes)), Publisher: string(c.Str(principalBytesMax))}
	c.Fixed(l.Origin.SPKI[:])
	if l.Records = c.Bin(math.MaxInt32); len(l.Records) == 0 {
		c.Fail(codec.ErrShort)
	}
	return l
}
