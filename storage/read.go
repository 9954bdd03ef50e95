package storage

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/topic"
)

// Read appends whole stored batches to dst, beginning with the one that holds offset from: about
// maxBytes of them, but at least one if there is one. next is the offset behind the last, records
// counts what they hold. At the end of the partition it returns nothing and no error.
// Errors wrap ErrTrimmed, ErrRange, ErrCorrupt or ErrClosed.
func (l *Log) Read(id topic.PartitionID, from topic.Offset, maxBytes int, dst []byte) (out []byte, next topic.Offset, records uint32, err error) {
	p := l.part(id)
	if p == nil {
		p = &part{id: id} // nothing was appended yet
	}
	var room [16]Batch
	bs, hot, err := p.inTail(from, maxBytes, room[:0])
	if err != nil {
		return dst, from, 0, err
	}
	if !hot {
		l.metrics.cold()
		return l.readCold(p, from, maxBytes, dst)
	}
	next = from
	for i := range bs {
		dst = append(dst, bs[i].Raw...)
		next, records = bs[i].End(), records+bs[i].Count
	}
	return dst, next, records, nil
}

// readCold reads from the segment that holds the offset.
func (l *Log) readCold(p *part, from topic.Offset, maxBytes int, dst []byte) (out []byte, next topic.Offset, records uint32, err error) {
	s, db, extent, err := l.enter(p.id, from)
	if err != nil {
		return dst, from, 0, err
	}
	defer s.leave()
	r := coldRead{part: p.id, from: from, next: from, end: extent.Next, maxBytes: maxBytes, out: dst, start: len(dst)}
	err = guarded(s.hurt, func() error {
		txn := db.NewTransactionAt(timestamp, false)
		defer txn.Discard()
		return r.run(txn)
	})
	if err != nil {
		return dst, from, 0, fmt.Errorf("read partition %d at %d, in segment %s: %w", p.id, r.next, s.name(), l.found(s, err))
	}
	s.readSome(len(r.out) - r.start)
	return r.out, r.next, r.records, nil
}

// enter finds the segment that holds a record and opens it for a reader, who must leave it. One that
// was deleted between the two was trimmed, or merged into another: look again.
func (l *Log) enter(id topic.PartitionID, offset topic.Offset) (*segment, *badger.DB, Extent, error) {
	for {
		s, extent := l.set.find(id, offset)
		if s == nil {
			return nil, nil, Extent{}, l.missing(id, offset)
		}
		db, err := s.enter()
		if errors.Is(err, errGone) {
			if now, _ := l.set.find(id, offset); now == s {
				return nil, nil, Extent{}, ErrClosed
			}
			continue
		}
		if err != nil {
			return nil, nil, Extent{}, fmt.Errorf("read partition %d at %d: %w", id, offset, l.found(s, err))
		}
		l.set.entered(s)
		return s, db, extent, nil
	}
}

// missing says why no segment holds an offset.
func (l *Log) missing(id topic.PartitionID, offset topic.Offset) error {
	if p := l.part(id); p != nil {
		if _, _, err := p.inTail(offset, 0, nil); err != nil {
			return err // trimmed or dropped meanwhile
		}
	}
	return fmt.Errorf("read partition %d at %d: %w: no segment holds the offset", id, offset, ErrCorrupt)
}

// coldRead collects batches from consecutive values.
type coldRead struct {
	part     topic.PartitionID
	from     topic.Offset
	end      topic.Offset // of what the segment holds of the partition: below it nothing may be missing
	maxBytes int
	out      []byte
	start    int // of what this read appended to out
	next     topic.Offset
	records  uint32
	full     bool
}

// run reads the value that holds from, then the ones that follow it.
func (r *coldRead) run(txn *badger.Txn) error {
	item, err := find(txn, r.part, r.from)
	for err == nil {
		before := r.next
		if err := item.Value(r.collect); err != nil {
			return err
		}
		if r.full || r.next >= r.end {
			return nil
		}
		if r.next == before {
			return fmt.Errorf("%w: a value without a record that belongs here", ErrCorrupt)
		}
		item, err = txn.Get(key(r.part, r.next))
	}
	if errors.Is(err, badger.ErrKeyNotFound) && r.records > 0 {
		return nil // what was found is right; the next read says what is missing
	}
	if errors.Is(err, badger.ErrKeyNotFound) {
		return fmt.Errorf("%w: no value holds the offset", ErrCorrupt)
	}
	return err
}

// collect appends the batches of one value that are wanted.
func (r *coldRead) collect(value []byte) error {
	if len(value) == 0 {
		return fmt.Errorf("%w: empty value", ErrCorrupt)
	}
	readAhead(value)
	var b batch.Batch
	for len(value) > 0 {
		rest, err := batch.Parse(value, &b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		value = rest
		if b.End() <= r.from {
			continue
		}
		if b.Partition != r.part || (b.Base != r.next && r.records > 0) || b.Base > r.next {
			return fmt.Errorf("%w: batch of partition %d at %d", ErrCorrupt, b.Partition, b.Base)
		}
		if r.records > 0 && len(r.out)-r.start+len(b.Raw) > r.maxBytes {
			r.full = true
			return nil
		}
		r.out = append(r.out, b.Raw...)
		r.next, r.records = b.End(), r.records+b.Count
	}
	return nil
}

// find returns the value whose first batch is at or before offset.
func find(txn *badger.Txn, p topic.PartitionID, offset topic.Offset) (*badger.Item, error) {
	item, err := txn.Get(key(p, offset))
	if !errors.Is(err, badger.ErrKeyNotFound) {
		return item, err
	}
	o := badger.IteratorOptions{Reverse: true, PrefetchValues: false, Prefix: key(p, 0)[:8]}
	it := txn.NewIterator(o)
	it.Seek(key(p, offset))
	if !it.Valid() {
		it.Close()
		return nil, badger.ErrKeyNotFound
	}
	base := baseOf(it.Item().Key())
	it.Close()
	return txn.Get(key(p, base))
}
