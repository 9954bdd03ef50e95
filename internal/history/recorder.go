package history

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Recorder notes operations.
type Recorder struct {
	start time.Time

	mu      sync.Mutex
	ops     []Op            // Guarded by mu. Those that have ended.
	numbers map[string]int  // Guarded by mu. Appends by client and partition.
	seen    map[string]seen // Guarded by mu. By client and partition.
}

// seen is what a client knows of a partition: at some time since then it ended at least there.
type seen struct{ end, since int64 }

// NewRecorder makes a recorder, whose clock starts now.
func NewRecorder() *Recorder {
	return &Recorder{start: time.Now(), numbers: map[string]int{}, seen: map[string]seen{}}
}

func (r *Recorder) now() int64 { return int64(time.Since(r.start)) }

// Append notes that a client appends a value. Appends of one client to one partition are begun one after the other; they may be
// answered in any order. end notes the answer: offset if the outcome is OK, otherwise err.
func (r *Recorder) Append(client, partition, value string) (end func(outcome Outcome, offset int64, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client + " " + partition
	op := Op{Client: client, Kind: Append, Partition: partition, Call: r.now(), Number: r.numbers[key], Value: value}
	r.numbers[key]++
	return func(outcome Outcome, offset int64, err error) {
		op.Outcome, op.Offset = outcome, offset
		r.end(op, offset+1, err)
	}
}

// Read notes that a client reads from an offset to the end. It must be shown what it was told of before, by its appends and reads.
func (r *Recorder) Read(client, partition string, from int64) (end func(records []Record, err error)) {
	return r.read(client, partition, from, false)
}

// ReadNow notes a read that must be shown everything that was there at the call, whoever wrote it.
func (r *Recorder) ReadNow(client, partition string, from int64) (end func(records []Record, err error)) {
	return r.read(client, partition, from, true)
}

func (r *Recorder) read(client, partition string, from int64, now bool) (end func(records []Record, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[client+" "+partition]
	op := Op{Client: client, Kind: Read, Partition: partition, Call: r.now(), Offset: from, Since: s.since, AtLeast: s.end}
	if now {
		op.Since = op.Call
	}
	return func(records []Record, err error) {
		op.Records, op.End = records, from+int64(len(records))
		r.end(op, op.End, err)
	}
}

// Tail notes that a client asks where a partition ends now.
func (r *Recorder) Tail(client, partition string) (end func(offset int64, err error)) {
	op := Op{Client: client, Kind: Tail, Partition: partition, Call: r.now()}
	return func(offset int64, err error) {
		op.End = offset
		r.end(op, offset, err)
	}
}

// end keeps an operation. A read or tail that failed says nothing.
func (r *Recorder) end(op Op, partitionEnd int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Return = r.now()
	switch {
	case err != nil:
		op.Error = err.Error()
	case op.Outcome == "":
		op.Outcome = OK
	}
	if op.Outcome == "" {
		op.Outcome = Rejected
	}
	if op.Outcome == OK {
		since := op.Call
		if op.Kind == Read { // of a node that may lag
			since = op.Since
		}
		if key := op.Client + " " + op.Partition; partitionEnd > r.seen[key].end {
			r.seen[key] = seen{partitionEnd, since}
		}
	}
	r.ops = append(r.ops, op)
}

// Ops are the operations that have ended, by the time of their call.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := slices.Clone(r.ops)
	slices.SortStableFunc(ops, func(a, b Op) int { return int(a.Call - b.Call) })
	return ops
}

// Count says how many operations of a kind ended how.
func Count(ops []Op) string {
	n := map[[2]string]int{}
	for i := range ops {
		n[[2]string{string(ops[i].Kind), string(ops[i].Outcome)}]++
	}
	var text strings.Builder
	for _, k := range []Kind{Append, Read, Tail} {
		for _, o := range []Outcome{OK, Rejected, Unknown} {
			if c := n[[2]string{string(k), string(o)}]; c > 0 {
				fmt.Fprintf(&text, " %s %s %d", k, o, c)
			}
		}
	}
	return text.String()
}
