package lease

import (
	"cmp"
	"time"
)

// retry is a record that is to be delivered again.
type retry struct {
	Record
	due time.Time
}

// waiting is a heap by time, then by place.
type waiting []retry

func (w waiting) Len() int { return len(w) }
func (w waiting) Less(i, j int) bool {
	return cmp.Or(w[i].due.Compare(w[j].due), w[i].compare(w[j].Record)) < 0
}
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(x any)   { *w = append(*w, x.(retry)) }
func (w *waiting) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	*w = (*w)[:last]
	return x
}

func (r Record) compare(o Record) int {
	return cmp.Or(cmp.Compare(r.Partition, o.Partition), cmp.Compare(r.Offset, o.Offset))
}
