package topic

import "strings"

// Pattern matches names by whole segments: '*' stands for exactly one segment, '>' as
// the last segment for one or more. Patterns are comparable; the zero Pattern matches nothing.
type Pattern struct{ text string }

// ParsePattern checks s against the grammar of patterns. Every name is a pattern.
func ParsePattern(s string) (Pattern, error) {
	if reason := check(s, true); reason != "" {
		return Pattern{}, &SyntaxError{What: "pattern", Input: clip(s), Reason: reason}
	}
	return Pattern{s}, nil
}

func (p Pattern) String() string { return p.text }

// Literal returns the only name that p matches, if p has no wildcard.
func (p Pattern) Literal() (Name, bool) {
	if p.text == "" || strings.ContainsAny(p.text, "*>") {
		return "", false
	}
	return Name(p.text), true
}

// Match reports whether p matches n. It does not allocate.
func (p Pattern) Match(n Name) bool { return match(p.text, string(n)) }

// match compares segment by segment; a segment of name that is a witness (see Covered)
// equals only wildcards.
func match(pattern, name string) bool {
	if pattern == "" || name == "" {
		return false
	}
	for {
		p, pRest, pMore := cut(pattern)
		if p == ">" {
			return true
		}
		n, nRest, nMore := cut(name)
		if p != n && p != "*" {
			return false
		}
		if !pMore || !nMore {
			return pMore == nMore
		}
		pattern, name = pRest, nRest
	}
}

// cut splits off the first segment.
func cut(s string) (seg, rest string, more bool) {
	if before, after, ok := strings.Cut(s, "."); ok {
		return before, after, true
	}
	return s, "", false
}

// Overlaps reports whether some name matches both p and q. It does not allocate.
func (p Pattern) Overlaps(q Pattern) bool {
	a, b := p.text, q.text
	if a == "" || b == "" {
		return false
	}
	for {
		x, aRest, aMore := cut(a)
		y, bRest, bMore := cut(b)
		if x == ">" || y == ">" {
			return true
		}
		if x != y && x != "*" && y != "*" {
			return false
		}
		if !aMore || !bMore {
			return aMore == bMore
		}
		a, b = aRest, bRest
	}
}
