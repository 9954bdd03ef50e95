package policy

import (
	"fmt"
	"strings"

	"github.com/waxwing-mq/waxwing/topic"
)

// template is a topic pattern that may have captures: whole segments like {name}.
type template struct {
	text    string
	uses    []string      // names of the captures; none = pattern is final
	pattern topic.Pattern // final, or with '>' from the first capture on
}

func parseTemplate(s string) (template, error) {
	if !strings.ContainsAny(s, "{}") {
		p, err := topic.ParsePattern(s)
		return template{text: s, pattern: p}, err
	}
	if len(s) > 2*topic.MaxBytes {
		return template{}, fmt.Errorf("pattern of %d bytes is too long", len(s))
	}
	t := template{text: s}
	segments := strings.Split(s, ".")
	first := -1
	for i, seg := range segments {
		name, ok, err := parseCapture(seg)
		if err != nil {
			return template{}, err
		}
		if ok {
			t.uses = append(t.uses, name)
			segments[i] = "*"
			if first < 0 {
				first = i
			}
		}
	}
	if _, err := topic.ParsePattern(strings.Join(segments, ".")); err != nil {
		return template{}, err
	}
	var err error
	t.pattern, err = topic.ParsePattern(strings.Join(append(segments[:first], ">"), "."))
	return t, err
}

// fill replaces the captures. Without ok one of them cannot stand in a topic; the
// pattern then matches everything that begins like the template does, which is right
// for a deny and must not be used for an allow.
func (t *template) fill(caps captures) (p topic.Pattern, ok bool) {
	if len(t.uses) == 0 {
		return t.pattern, true
	}
	segments := strings.Split(t.text, ".")
	for i, seg := range segments {
		name, isCapture, _ := parseCapture(seg)
		if !isCapture {
			continue
		}
		value, known := caps.get(name)
		if !known || !safeSegment(value) {
			return t.pattern, false
		}
		segments[i] = value
	}
	p, err := topic.ParsePattern(strings.Join(segments, "."))
	if err != nil {
		return t.pattern, false
	}
	return p, true
}

// parseCapture recognises {name}.
func parseCapture(seg string) (name string, ok bool, err error) {
	if !strings.ContainsAny(seg, "{}") {
		return "", false, nil
	}
	name, hasOpen := strings.CutPrefix(seg, "{")
	name, hasClose := strings.CutSuffix(name, "}")
	if !hasOpen || !hasClose || !safeSegment(name) || len(name) > nameBytesMax {
		return "", false, fmt.Errorf("%.64q: a capture is a whole segment like {name}, of A-Z, a-z, 0-9, '_' and '-'", seg)
	}
	return name, true, nil
}

// safeSegment reports whether s can stand in a topic as one plain segment.
func safeSegment(s string) bool {
	for i := range len(s) {
		if !safeByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func safeByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
