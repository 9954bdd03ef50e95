package collect

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/waxwing-mq/waxwing/client"
)

// order is the part of an order's body that billing needs.
type order struct {
	Number int `json:"order"`
	Items  int `json:"items"`
	Cents  int `json:"cents"`
}

// ledger checks orders as they come. Order is only promised within a partition, so
// numbers must rise there, and offsets must follow each other.
type ledger struct {
	publisher  string // "" until the first order, if any will do
	partitions map[uint32]place
	sums       map[int][sha256.Size]byte // by order number
	cents      int
}

// place is how far a partition was read.
type place struct {
	offset int64
	number int
}

func newLedger(publisher string) *ledger {
	return &ledger{publisher: publisher, partitions: make(map[uint32]place), sums: make(map[int][sha256.Size]byte)}
}

func (l *ledger) add(m *client.Message) error {
	at := fmt.Sprintf("%s/%d offset %d", m.Topic, m.Partition, m.Offset)
	var o order
	if err := json.Unmarshal(m.Body, &o); err != nil {
		return fmt.Errorf("%s: not an order: %w", at, err)
	}
	if l.publisher == "" {
		l.publisher = m.Publisher
	}
	if m.Publisher != l.publisher {
		return fmt.Errorf("%s: order %d was published by %s, expected %s", at, o.Number, m.Publisher, l.publisher)
	}
	if err := l.inOrder(m, o); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if _, seen := l.sums[o.Number]; seen {
		return fmt.Errorf("%s: order %d came twice", at, o.Number)
	}
	l.sums[o.Number] = sha256.Sum256(m.Body)
	l.cents += o.Items * o.Cents
	return nil
}

func (l *ledger) inOrder(m *client.Message, o order) error {
	last, begun := l.partitions[m.Partition]
	l.partitions[m.Partition] = place{m.Offset, o.Number}
	switch {
	case !begun:
		return nil
	case m.Offset != last.offset+1:
		return fmt.Errorf("the record before it had offset %d", last.offset)
	case o.Number <= last.number:
		return fmt.Errorf("order %d comes behind order %d", o.Number, last.number)
	}
	return nil
}

// checksum is the SHA-256 of the SHA-256 of each body, from order 0 on, none missing.
func (l *ledger) checksum() (string, error) {
	sum := sha256.New()
	for n := range len(l.sums) {
		one, ok := l.sums[n]
		if !ok {
			return "", fmt.Errorf("order %d is missing, though %d orders came", n, len(l.sums))
		}
		sum.Write(one[:])
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
