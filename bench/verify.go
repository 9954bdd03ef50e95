package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Verification is what became of the records of a run: anything but zeros behind Received is a fault of the broker, the client
// or this package.
type Verification struct {
	Expected   uint64 `json:"expected"` // acknowledged, once for each reader
	Received   uint64 `json:"received"` // each counted once
	Lost       uint64 `json:"lost"`
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"`
	Damaged    uint64 `json:"damaged"` // other bytes than were sent, or not of this run
}

func (v *Verification) add(o Verification) {
	v.Expected += o.Expected
	v.Received += o.Received
	v.Lost += o.Lost
	v.Duplicated += o.Duplicated
	v.Reordered += o.Reordered
	v.Damaged += o.Damaged
}

// Err is a FaultError unless all is well.
func (v Verification) Err() error {
	if v.Lost+v.Duplicated+v.Reordered+v.Damaged == 0 {
		return nil
	}
	return &FaultError{v}
}

// FaultError says that a run's records did not all come back once, in order and unchanged: its figures mean nothing.
type FaultError struct{ Verification }

// Error tells what went wrong how often.
func (e *FaultError) Error() string {
	var faults []string
	for _, f := range []struct {
		n    uint64
		what string
	}{{e.Lost, "lost"}, {e.Duplicated, "doubled"}, {e.Reordered, "out of order"}, {e.Damaged, "changed"}} {
		if f.n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	return fmt.Sprintf("the records of this run did not come back as they were acknowledged: of %d, %s; its figures are no result", e.Expected, strings.Join(faults, ", "))
}

// span is numbers that have not come: from to to-1.
type span struct{ from, to uint64 }

// verifier looks at what one reader gets. It is for one goroutine.
type verifier struct {
	run     uint64
	streams []streamSeen
	seen    Verification
	markers uint64
}

// streamSeen is how far a stream has come.
type streamSeen struct {
	next    uint64
	missing []span // below next, rising
}

func newVerifier(run uint64, streams int) *verifier {
	return &verifier{run: run, streams: make([]streamSeen, streams)}
}

// check looks at a payload; false = it is not one that was waited for.
func (v *verifier) check(body []byte) (stamp, bool) {
	s, ok := readStamp(body)
	if !ok || s.run != v.run || int64(s.stream) >= int64(len(v.streams)) {
		v.seen.Damaged++
		return s, false
	}
	seen := &v.streams[s.stream]
	switch {
	case s.number == seen.next:
		seen.next++
	case s.number > seen.next:
		seen.missing = append(seen.missing, span{seen.next, s.number})
		seen.next = s.number + 1
	case seen.found(s.number):
		v.seen.Reordered++
	default:
		v.seen.Duplicated++
		return s, false
	}
	v.seen.Received++
	if s.kind == kindMarker {
		v.markers++
	}
	return s, true
}

// found takes a number that comes late out of the missing ones; false = it was there already.
func (s *streamSeen) found(number uint64) bool {
	for i, m := range s.missing {
		if number < m.from || number >= m.to {
			continue
		}
		var rest []span
		for _, part := range []span{{m.from, number}, {number + 1, m.to}} {
			if part.from < part.to {
				rest = append(rest, part)
			}
		}
		s.missing = slices.Replace(s.missing, i, i+1, rest...)
		return true
	}
	return false
}

// finish compares with what was acknowledged, by stream.
func (v *verifier) finish(acknowledged []uint64) Verification {
	for i, n := range acknowledged {
		seen := &v.streams[i]
		v.seen.Expected += n
		for _, m := range seen.missing {
			v.seen.Lost += m.to - m.from
		}
		if seen.next < n {
			v.seen.Lost += n - seen.next
		}
	}
	return v.seen
}
