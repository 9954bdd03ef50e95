package plan

// Rules for merging. They keep the disk below twice the live data, the two newest segments apart, and the number of
// segments small.
const (
	newestKept       = 2  // segments that a start needs
	mergeLivePercent = 60 // a segment with less than this readable is worth writing again
	mergeSmallRun    = 8  // so many neighbours are worth making one of, if it still fits into a segment
)

// Old is how many of so many sealed segments, the oldest first, may be deleted or merged: not the newest two, which a
// start needs.
func Old(sealed int) int { return max(sealed-newestKept, 0) }

// Live is how many of the bytes of records base..next-1 are still readable when the first readable one is low. A part of
// them counts by records.
func Live(base, next, low int64, bytes uint64) uint64 {
	switch {
	case low >= next:
		return 0
	case low <= base:
		return bytes
	}
	return bytes * uint64(next-low) / uint64(next-base)
}

// Usage is what a segment holds, and how much of it is still readable. A fixed one must stay as it is.
type Usage struct {
	Bytes, Live uint64
	Fixed       bool
}

// Dead says whether a segment holds nothing readable and may go.
func (u Usage) Dead() bool { return u.Live == 0 && !u.Fixed }

// Merge finds neighbours among old segments that are worth writing again and fit into one segment of most bytes: from..to-1;
// empty if there are none. The first that are mostly dead, or else small ones.
func Merge(old []Usage, most int64) (from, to int) {
	var dead run
	for i, u := range old {
		if !dead.add(i, u, most, u.Live*100 < u.Bytes*mergeLivePercent) && dead.count > 0 {
			return dead.bounds()
		}
	}
	if dead.count > 0 {
		return dead.bounds()
	}
	return small(old, uint64(most))
}

// small finds neighbours of which one should be made: at least mergeSmallRun that fit into one segment, none of them more
// than half of the result. So what was merged before is written again only once it can double, however the sizes
// alternate.
func small(old []Usage, most uint64) (from, to int) {
	for from := range old {
		sum, largest, end := uint64(0), uint64(0), 0
		for i := from; i < len(old) && !old[i].Fixed && sum+old[i].Live <= most; i++ {
			sum, largest = sum+old[i].Live, max(largest, old[i].Live)
			if i-from+1 >= mergeSmallRun && 2*largest <= sum {
				end = i + 1
			}
		}
		if end > 0 {
			return from, end
		}
	}
	return 0, 0
}

// run is neighbours that may become one segment.
type run struct {
	from, count int
	live        uint64
}

func (r *run) bounds() (from, to int) { return r.from, r.from + r.count }

// add takes the next neighbour, if it is worth it and fits; false = the run ends before it.
func (r *run) add(i int, u Usage, most int64, worth bool) bool {
	if u.Fixed || !worth || r.live+u.Live > uint64(most) {
		return false
	}
	if r.count == 0 {
		r.from = i
	}
	r.count, r.live = r.count+1, r.live+u.Live
	return true
}
