package history

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// CheckLinearizable says whether one log, that did one operation after the other, could have answered as clients were told. final
// is the partition as it was read back at the end: what of the unknown appends is in it happened at some time after the call, and
// the others never. A search that takes longer than limit counts as not linearizable; 0 = no limit.
//
// A read is served by a node that may lag: it shows the log as it was at some time since the read's client had last seen it. A tail
// shows it as it was between call and return.
func CheckLinearizable(partition string, final []Record, ops []Op, limit time.Duration) (bool, porcupine.LinearizationInfo) {
	result, info := porcupine.CheckOperationsVerbose(model, operations(partition, final, ops), limit)
	return result == porcupine.Ok, info
}

// Visualize writes a history that was checked as a page for a browser.
func Visualize(info porcupine.LinearizationInfo, file string) error {
	return porcupine.VisualizePath(model, info, file)
}

// operations are those of a partition that have an effect or an answer, and that the log was read back.
func operations(partition string, final []Record, ops []Op) (list []porcupine.Operation) {
	at := make(map[string]int64, len(final))
	for _, r := range final {
		at[r.Value] = r.Offset
	}
	clients, last := map[string]int{}, int64(0)
	for _, o := range ops {
		last = max(last, o.Return)
		if o.Partition != partition || o.Outcome == Rejected {
			continue
		}
		p := porcupine.Operation{Call: o.Call, Return: o.Return}
		if o.Outcome == Unknown {
			place, happened := at[o.Value]
			if o.Kind != Append || !happened {
				continue
			}
			o.Offset, p.Return = place, math.MaxInt64
		}
		if o.Kind == Read {
			p.Call = min(o.Since, o.Call)
		}
		id, known := clients[o.Client]
		if !known {
			id = len(clients)
			clients[o.Client] = id
		}
		p.ClientId, p.Input = id, o
		list = append(list, p)
	}
	all := Op{Client: "at the end", Kind: Read, Partition: partition, Call: last + 1, Return: last + 2, Outcome: OK, Records: final, End: int64(len(final))}
	return append(list, porcupine.Operation{ClientId: len(clients), Input: all, Call: all.Call, Return: all.Return})
}

// prefix is a log: its last record, and what is before it. nil is the empty log. It never changes.
type prefix struct {
	before *prefix
	value  string
	length int64
	sum    uint64 // of all values
}

var sumSeed = maphash.MakeSeed()

func (p *prefix) end() int64 {
	if p == nil {
		return 0
	}
	return p.length
}

func (p *prefix) append(value string) *prefix {
	next := &prefix{before: p, value: value, length: p.end() + 1}
	var h maphash.Hash
	h.SetSeed(sumSeed)
	if p != nil {
		maphash.WriteComparable(&h, p.sum)
	}
	h.WriteString(value)
	next.sum = h.Sum64()
	return next
}

// shows says whether the end of the log is these records, from an offset on.
func (p *prefix) shows(from int64, records []Record) bool {
	if from+int64(len(records)) != p.end() {
		return false
	}
	for i := len(records) - 1; i >= 0; i-- {
		if records[i].Value != p.value || records[i].Offset != p.length-1 {
			return false
		}
		p = p.before
	}
	return true
}

// model is one log.
var model = porcupine.Model{
	Init: func() any { return (*prefix)(nil) },
	Step: func(state, input, _ any) (bool, any) { return step(state.(*prefix), input.(Op)) },
	Equal: func(a, b any) bool {
		x, y := a.(*prefix), b.(*prefix)
		return x == y || x != nil && y != nil && x.length == y.length && x.sum == y.sum
	},
	DescribeOperation: func(input, _ any) string { o := input.(Op); return o.String() },
}

// step says whether an operation is possible on a log, and what the log is then.
func step(p *prefix, o Op) (bool, *prefix) {
	switch o.Kind {
	case Append:
		if o.Offset != p.end() {
			return false, p
		}
		return true, p.append(o.Value)
	case Read:
		return p.end() >= o.AtLeast && p.shows(o.Offset, o.Records), p
	}
	return o.End == p.end(), p
}
