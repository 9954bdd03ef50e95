package powercut

import (
	"fmt"
	"hash/crc32"
	"sync"
)

// LossError says that a recovered broker does not hold what was acknowledged.
type LossError struct {
	Partition uint32
	Offset    int64 // the first that is wrong or missing
	Lost      int64 // acknowledged records that are not there; 0 = something else is wrong
	Text      string
}

func (e *LossError) Error() string {
	return fmt.Sprintf("partition %d, offset %d: %s", e.Partition, e.Offset, e.Text)
}

// partitions is the number of partitions of the topic.
const partitions = 3

// journal knows what was published and acknowledged on one disk. It lives outside the disk.
// Record n of a partition must have been given offset n.
type journal struct {
	mu      sync.Mutex
	topic   bool               // Guarded by mu. It was created, and that was acknowledged.
	parts   [partitions]ledger // Guarded by mu.
	acked   int64              // Guarded by mu. Over all partitions.
	target  int64              // Guarded by mu. reached is closed when acked gets here.
	reached chan struct{}      // Guarded by mu.
}

// ledger is the journal of one partition.
type ledger struct {
	sums    []uint32 // of the body of each published record
	offsets []int64  // of each acknowledged record, as acknowledged
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(body []byte) uint32 { return crc32.Checksum(body, castagnoli) }

// created enters that there is a topic.
func (j *journal) created() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.topic = true
}

// published enters the next record of a partition before it is sent.
func (j *journal) published(partition uint32, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := &j.parts[partition]
	l.sums = append(l.sums, checksum(body))
}

// acknowledged enters the acknowledgement of the next record of a partition.
func (j *journal) acknowledged(partition uint32, offset int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := &j.parts[partition]
	want := int64(len(l.offsets))
	if offset != want {
		return &LossError{Partition: partition, Offset: want, Text: fmt.Sprintf("record %d was acknowledged at offset %d", want, offset)}
	}
	l.offsets = append(l.offsets, offset)
	if j.acked++; j.reached != nil && j.acked >= j.target {
		close(j.reached)
		j.reached = nil
	}
	return nil
}

// more returns a channel that is closed when n more records are acknowledged. A later call takes
// the place of an earlier one.
func (j *journal) more(n int64) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	reached := make(chan struct{})
	j.target, j.reached = j.acked+max(n, 1), reached
	return reached
}

// expect freezes what a broker that recovers now must hold.
func (j *journal) expect() *expectation {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := &expectation{topic: j.topic}
	for i := range j.parts {
		// Appending to the ledgers goes on and does not reach into these.
		l := &j.parts[i]
		e.sums[i], e.acked[i] = l.sums[:len(l.sums):len(l.sums)], int64(len(l.offsets))
	}
	return e
}

// expectation is what must be found after a cut: every acknowledged record, and of those that were
// published and not acknowledged any first part.
type expectation struct {
	topic bool
	sums  [partitions][]uint32
	acked [partitions]int64
	next  [partitions]int64 // offset that must come next
}

// see takes the next record that a reader of the recovered broker got.
func (e *expectation) see(partition uint32, offset int64, body []byte, publisher, wanted string) error {
	if partition >= partitions {
		return &LossError{Partition: partition, Offset: offset, Text: "there is no such partition"}
	}
	next := e.next[partition]
	wrong := func(format string, values ...any) error {
		return &LossError{Partition: partition, Offset: next, Text: fmt.Sprintf(format, values...)}
	}
	switch {
	case offset != next:
		return wrong("offset %d came instead", offset)
	case next >= int64(len(e.sums[partition])):
		return wrong("a record that nobody published: %q", body)
	case checksum(body) != e.sums[partition][next]:
		return wrong("wrong bytes: %q", body)
	case publisher != wanted:
		return wrong("published by %s, want %s", publisher, wanted)
	}
	e.next[partition]++
	return nil
}

// done says whether anything that was acknowledged is missing.
func (e *expectation) done() error {
	for p, next := range e.next {
		if lost := e.acked[p] - next; lost > 0 {
			return &LossError{Partition: uint32(p), Offset: next, Lost: lost, Text: fmt.Sprintf("%d of %d acknowledged records are lost", lost, e.acked[p])}
		}
	}
	return nil
}

// found is the number of records that were seen.
func (e *expectation) found() int64 {
	n := int64(0)
	for _, next := range e.next {
		n += next
	}
	return n
}
