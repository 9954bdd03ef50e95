package plan

// LogWindow is how many entries below the sealed point stay in the raft log in any case: more than any tail that was
// never committed.
const LogWindow = 1024

// KeepLog is the first entry of the raft log that must stay behind a sealed segment, which holds the entries from..point:
// its own ones and the point before, for the case that it turns out damaged, and window entries below its point. The
// entry of the point itself is among them, since raft compares with it (reference rule 4).
func KeepLog(from, point, window uint64) uint64 {
	keep := max(from, 1) - 1
	if point < keep+window {
		keep = point - min(window, point)
	}
	return max(keep, 1)
}

// Fit is how a raft log and the newest sealed segment go together.
type Fit uint8

// Fits. Only the first may start.
const (
	Fits       Fit = iota
	NoSegment      // it begins behind entry 1, and no segment holds what was before
	EndsEarly      // it ends before the sealed point: acknowledged entries are lost
	BeginsLate     // it begins behind the sealed point
	OtherTerm      // its entry of the point has another term
)

// FitLog holds a log of entries first..last (0, 0: empty) against the newest sealed point (index and term; 0: none).
// termAt is asked for the term of the log's own entry of the point, if the log has it.
func FitLog(first, last, index, term uint64, termAt func() (uint64, error)) (Fit, error) {
	switch {
	case index == 0 && first > 1:
		return NoSegment, nil
	case index == 0:
		return Fits, nil
	case last < index:
		return EndsEarly, nil
	case first > index:
		return BeginsLate, nil
	}
	at, err := termAt()
	if err == nil && at != term {
		return OtherTerm, nil
	}
	return Fits, err
}
