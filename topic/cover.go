package topic

import "strings"

// fresh stands in a witness for a segment that no literal equals. It is not a legal
// segment, so only '*' and '>' match it.
const fresh = "+"

// Covered reports whether every name that q matches is matched by at least one of by:
// whether the language of q is inside the union of theirs. The answer is exact.
//
// Names have infinitely many spellings but only MaxSegments lengths. For each length
// that q can have, take the witness in which every wildcard segment of q is a fresh
// symbol. A pattern that matches the witness has a wildcard at each of those places, so
// it matches every name of q of that length; if none does, the witness (with the symbol
// replaced by a spelling that no pattern mentions) is a name that q matches and by does not.
func Covered(q Pattern, by []Pattern) bool {
	if q.text == "" {
		return true
	}
	base := strings.Split(q.text, ".")
	open := base[len(base)-1] == ">"
	for i, seg := range base {
		if seg == "*" || seg == ">" {
			base[i] = fresh
		}
	}
	for {
		if !anyMatch(strings.Join(base, "."), by) {
			return false
		}
		if !open || len(base) == MaxSegments {
			return true
		}
		base = append(base, fresh)
	}
}

// anyMatch reports whether one of the patterns matches the witness.
func anyMatch(witness string, by []Pattern) bool {
	for _, p := range by {
		if match(p.text, witness) {
			return true
		}
	}
	return false
}
