package plan

// Pair is a run of one node's segments and the run of another node's that cover some of the same cuts: own[From:To] and
// other[OtherFrom:OtherTo]. No other segment of either covers a cut of the pair's. One of the runs may be empty.
type Pair struct {
	From, To           int
	OtherFrom, OtherTo int
}

// Pairs sorts the segments of two nodes, each oldest first and none inside another, into the smallest such runs. Each node
// merges when it likes, so one segment here may be several there, or parts of two.
func Pairs(own, other []Cuts) (list []Pair) {
	for i, j := 0, 0; i < len(own) || j < len(other); {
		p := Pair{From: i, OtherFrom: j}
		last := uint64(0)
		if j == len(other) || i < len(own) && own[i].First <= other[j].First {
			last, i = own[i].Last, i+1
		} else {
			last, j = other[j].Last, j+1
		}
		for {
			switch {
			case i < len(own) && own[i].First <= last:
				last, i = max(last, own[i].Last), i+1
				continue
			case j < len(other) && other[j].First <= last:
				last, j = max(last, other[j].Last), j+1
				continue
			}
			break
		}
		p.To, p.OtherTo = i, j
		list = append(list, p)
	}
	return list
}

// Nested says whether each segment of one run lies inside one of the other run, or has the same cuts.
func Nested(own, other []Cuts) bool {
	inside := func(small, large []Cuts) bool {
		for _, s := range small {
			found := false
			for _, l := range large {
				found = found || l.First <= s.First && s.Last <= l.Last
			}
			if !found {
				return false
			}
		}
		return true
	}
	return inside(own, other) || inside(other, own)
}
