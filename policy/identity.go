package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// identityPattern matches principals by whole segments, parted by '/'. A segment is
// literal, '*' (any one), {name} (any one, captured) or, at the end, '>' (one or more).
// Comparison is byte for byte.
type identityPattern struct {
	text    string
	scheme  string
	parts   []string // without the tail; captures as they were written
	tail    bool     // ends in '>'
	literal bool
}

// schemes are what a principal can begin with (package identity makes no others).
var schemes = [...]string{"spiffe://", "dns:", "email:", "cn:"}

// capture is one segment of a principal under the name that the pattern gives it.
type capture struct{ name, value string }

type captures []capture

func (cs captures) get(name string) (string, bool) {
	for _, c := range cs {
		if c.name == name {
			return c.value, true
		}
	}
	return "", false
}

// safe reports whether every captured text can stand in a topic as one plain segment.
func (cs captures) safe() bool {
	return !slices.ContainsFunc(cs, func(c capture) bool { return !safeSegment(c.value) })
}

func parseIdentity(s string) (identityPattern, error) {
	if len(s) > identityBytesMax {
		return identityPattern{}, fmt.Errorf("identity has %d bytes; at most %d are allowed", len(s), identityBytesMax)
	}
	scheme, rest := splitScheme(s)
	if scheme == "" {
		return identityPattern{}, fmt.Errorf("identity %.64q must begin with one of spiffe://, dns:, email:, cn: as whoami shows it", s)
	}
	p := identityPattern{text: s, scheme: scheme, parts: strings.Split(rest, "/"), literal: true}
	if n := len(p.parts) - 1; p.parts[n] == ">" {
		p.parts, p.tail, p.literal = p.parts[:n], true, false
	}
	var names []string
	for _, seg := range p.parts {
		name, ok, err := parseCapture(seg)
		switch {
		case err != nil:
			return identityPattern{}, err
		case ok && slices.Contains(names, name):
			return identityPattern{}, fmt.Errorf("identity captures {%s} twice", name)
		case ok:
			names = append(names, name)
		}
		if ok || seg == "*" {
			p.literal = false
		} else if err := checkLiteral(seg, scheme); err != nil {
			return identityPattern{}, err
		}
	}
	if scheme == "spiffe://" {
		return p, p.checkSPIFFE()
	}
	return p, nil
}

func splitScheme(s string) (scheme, rest string) {
	for _, scheme := range schemes {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return scheme, rest
		}
	}
	return "", s
}

// checkLiteral refuses what no principal contains, so that a typing error is not a rule
// that silently never matches.
func checkLiteral(seg, scheme string) error {
	switch {
	case seg == "":
		return errors.New("identity has an empty segment")
	case strings.ContainsAny(seg, "*>"):
		return fmt.Errorf("identity segment %.64q: a wildcard stands for a whole segment, and '>' only at the end", seg)
	}
	for i := range len(seg) {
		c := seg[i]
		if c < ' ' || c == 0x7f || scheme == "spiffe://" && c != '.' && !safeByte(c) {
			return fmt.Errorf("identity segment %.64q has the byte %#02x, which no identity of this kind has", seg, c)
		}
	}
	if scheme == "spiffe://" && (seg == "." || seg == "..") {
		return fmt.Errorf("identity has the segment %q, which no SPIFFE ID has", seg)
	}
	return nil
}

// checkSPIFFE wants a literal trust domain and a path that is not a broker's.
func (p *identityPattern) checkSPIFFE() error {
	if len(p.parts) == 0 || p.parts[0] == "*" || strings.HasPrefix(p.parts[0], "{") {
		return errors.New("the trust domain of an identity must be written out")
	}
	td := p.parts[0]
	if td != strings.ToLower(td) {
		return fmt.Errorf("trust domain %.64q must be in lower case", td)
	}
	if len(p.parts) == 1 && !p.tail {
		return fmt.Errorf("identity %.64q has no path; use spiffe://%s/client/NAME", p.text, td)
	}
	if len(p.parts) > 1 && p.parts[1] == "broker" {
		return errors.New("a broker's identity gives no client rights and cannot be bound")
	}
	return nil
}

// match reports whether the principal matches, and what was captured.
func (p *identityPattern) match(principal string) (captures, bool) {
	rest, ok := strings.CutPrefix(principal, p.scheme)
	if !ok {
		return nil, false
	}
	var caps captures
	more := true
	for _, want := range p.parts {
		if !more {
			return nil, false
		}
		var seg string
		seg, rest, more = strings.Cut(rest, "/")
		if name, ok := strings.CutPrefix(want, "{"); ok {
			caps = append(caps, capture{name[:len(name)-1], seg})
		} else if seg != want && want != "*" || seg == "" {
			return nil, false
		}
	}
	if p.tail {
		return caps, rest != ""
	}
	return caps, !more
}

// captureNames are the names that a match binds.
func (p *identityPattern) captureNames() []string {
	var names []string
	for _, seg := range p.parts {
		if name, ok, _ := parseCapture(seg); ok {
			names = append(names, name)
		}
	}
	return names
}

// isBroker reports whether a principal is a node, which never has client rights.
func isBroker(principal string) bool {
	rest, ok := strings.CutPrefix(principal, "spiffe://")
	if !ok {
		return false
	}
	_, path, _ := strings.Cut(rest, "/")
	return path == "broker" || strings.HasPrefix(path, "broker/")
}
