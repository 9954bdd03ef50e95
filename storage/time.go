package storage

import (
	"fmt"
	"sort"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/topic"
)

// OffsetAt is the offset of the first record that was appended at or after timeMs (unix ms),
// or the partition's end if there is none; 0 for a partition without records. Append times never
// fall, so it searches by halves. Errors wrap ErrCorrupt.
func (l *Log) OffsetAt(id topic.PartitionID, timeMs int64) (topic.Offset, error) {
	p := l.part(id)
	if p == nil {
		return 0, nil
	}
	low, behind, inMemory := p.searchTail(timeMs)
	if inMemory {
		return behind, nil
	}
	return l.searchCold(id, low, behind, timeMs)
}

// searchTail finds the first batch of the tail that is new enough, or the end. found is false if an
// older one in [low, first) may be new enough too.
func (p *part) searchTail(timeMs int64) (low, first topic.Offset, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := sort.Search(len(p.tail), func(i int) bool { return p.tail[i].TimeMs >= timeMs })
	first = p.end
	if i < len(p.tail) {
		first = p.tail[i].Base
	}
	return p.low, first, i > 0 || first == p.low
}

// searchCold finds the first batch in [low, behind) that is new enough, or behind.
func (l *Log) searchCold(id topic.PartitionID, low, behind topic.Offset, timeMs int64) (topic.Offset, error) {
	for low < behind {
		middle := low + (behind-low)/2
		b, err := l.batchAt(id, middle)
		if err != nil {
			return 0, err
		}
		if b.TimeMs >= timeMs {
			behind = b.Base
		} else {
			low = b.End()
		}
	}
	return behind, nil
}

// batchAt reads the header of the batch that holds offset, from its segment.
func (l *Log) batchAt(id topic.PartitionID, offset topic.Offset) (m batch.Meta, err error) {
	s, db, _, err := l.enter(id, offset)
	if err != nil {
		return m, err
	}
	defer s.leave()
	err = guarded(s.hurt, func() error {
		txn := db.NewTransactionAt(timestamp, false)
		defer txn.Discard()
		item, err := find(txn, id, offset)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return item.Value(func(value []byte) (err error) { m, err = batchIn(value, id, offset); return err })
	})
	if err != nil {
		return m, fmt.Errorf("read partition %d at %d, in segment %s: %w", id, offset, s.name(), l.found(s, err))
	}
	return m, nil
}

// batchIn finds the batch of a value that holds offset.
func batchIn(value []byte, id topic.PartitionID, offset topic.Offset) (batch.Meta, error) {
	var b batch.Batch
	for {
		rest, err := batch.Parse(value, &b)
		if err != nil {
			return batch.Meta{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if b.Partition != id || b.Base > offset {
			return batch.Meta{}, fmt.Errorf("%w: batch of partition %d at %d", ErrCorrupt, b.Partition, b.Base)
		}
		if b.End() > offset {
			return b.Meta, nil
		}
		value = rest
	}
}
