package topic

import (
	"fmt"
	"strings"
)

// SyntaxError says what is wrong with a name or pattern.
type SyntaxError struct {
	What   string // "name" or "pattern"
	Input  string // as given, cut at MaxBytes
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("topic %s %q: %s", e.What, e.Input, e.Reason)
}

// ParseName checks s against the grammar of names.
func ParseName(s string) (Name, error) {
	if reason := check(s, false); reason != "" {
		return "", &SyntaxError{What: "name", Input: clip(s), Reason: reason}
	}
	return Name(s), nil
}

// check returns why s is not a name (or, with wild, not a pattern), or "".
func check(s string, wild bool) string {
	switch {
	case s == "":
		return "is empty; use segments of A-Z, a-z, 0-9, '_' and '-', joined by '.'"
	case len(s) > MaxBytes:
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(s), MaxBytes)
	}
	segments, start := 0, 0
	for start <= len(s) {
		end := len(s)
		if i := strings.IndexByte(s[start:], '.'); i >= 0 {
			end = start + i
		}
		segments++
		if reason := checkSegment(s[start:end], end == len(s), wild); reason != "" {
			return reason
		}
		start = end + 1
	}
	if segments > MaxSegments {
		return fmt.Sprintf("has %d segments; at most %d are allowed", segments, MaxSegments)
	}
	return ""
}

// checkSegment returns why seg is not a segment, or "".
func checkSegment(seg string, last, wild bool) string {
	switch {
	case seg == "":
		return "has an empty segment (two dots in a row, or a dot at an end)"
	case wild && seg == "*":
		return ""
	case wild && seg == ">":
		if !last {
			return "has '>' before the end; it may only be the last segment"
		}
		return ""
	}
	for i := range len(seg) {
		if !plain(seg[i]) {
			return badByte(seg[i], wild)
		}
	}
	return ""
}

// badByte words the complaint about one byte.
func badByte(c byte, wild bool) string {
	if c == '*' || c == '>' {
		if wild {
			return fmt.Sprintf("has %q inside a segment; a wildcard stands for whole segments", c)
		}
		return fmt.Sprintf("has the wildcard %q; a name has none", c)
	}
	return fmt.Sprintf("has the byte %#02x; segments are of A-Z, a-z, 0-9, '_' and '-'", c)
}

// plain reports whether c may stand in a segment.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// clip bounds what an error repeats of its input.
func clip(s string) string {
	if len(s) <= MaxBytes {
		return s
	}
	return s[:MaxBytes] + "..."
}
