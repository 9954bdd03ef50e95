package policy

import (
	"bytes"
	"encoding/binary"

	"github.com/waxwing-mq/waxwing/topic"
)

// Policy is a compiled document. It never changes.
type Policy struct {
	version  uint64
	doc      []byte
	auto     []autoRule
	tests    []testCase
	literal  map[string][]*binding // by the one identity they match
	wild     []*binding
	nobody   *Subject // for identities that no binding matches
	subjects cache    // by principal
	shared   cache    // by set of bindings
}

// Compile reads a document and gives it a version, which decisions repeat. The error is
// of type Errors and holds every fault. The tests of the document are not run: see Test.
func Compile(doc []byte, version uint64) (*Policy, error) {
	d, err := parse(doc)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		version: version,
		doc:     bytes.Clone(doc),
		auto:    d.auto,
		tests:   d.tests,
		literal: map[string][]*binding{},
		nobody:  noSubject(version, ReasonNoBinding),
	}
	for _, b := range d.bindings {
		for _, r := range b.rules {
			r.on.Version = version
		}
		if b.identity.literal {
			p.literal[b.identity.text] = append(p.literal[b.identity.text], b)
		} else {
			p.wild = append(p.wild, b)
		}
	}
	return p, nil
}

// DenyAll is the policy of a node that has none, or none that compiles.
func DenyAll(version uint64) *Policy {
	return &Policy{version: version, nobody: noSubject(version, ReasonNoPolicy)}
}

// Version is what Compile was given.
func (p *Policy) Version() uint64 { return p.version }

// Document is a copy of the bytes that Compile was given.
func (p *Policy) Document() []byte { return bytes.Clone(p.doc) }

// For returns what the policy says about a principal. The answer is cached; keep it as
// long as the policy is current.
func (p *Policy) For(principal string) *Subject {
	if s := p.subjects.get(principal); s != nil {
		return s
	}
	s, shared := p.resolve(principal)
	p.subjects.put(principal, s, shared)
	return s
}

// match is a binding that a principal matches, with what it captured.
type match struct {
	*binding
	caps captures
}

// matches lists the bindings that count for a principal.
func (p *Policy) matches(principal string) []match {
	if isBroker(principal) {
		return nil
	}
	var ms []match
	for _, b := range p.literal[principal] {
		ms = append(ms, match{b, nil})
	}
	for _, b := range p.wild {
		if caps, ok := b.identity.match(principal); ok {
			ms = append(ms, match{b, caps})
		}
	}
	return ms
}

// resolve builds the subject of a principal. Principals with the same bindings share
// one subject, unless it depends on what they captured.
func (p *Policy) resolve(principal string) (s *Subject, shared bool) {
	ms := p.matches(principal)
	if len(ms) == 0 {
		return p.nobody, true
	}
	key := sharedKey(ms)
	if s := p.shared.get(key); s != nil {
		return s, true
	}
	s = noSubject(p.version, ReasonNoRule)
	for _, m := range ms {
		s.bind(m.binding, m.caps)
	}
	s.sort()
	if key != "" {
		p.shared.put(key, s, false)
	}
	return s, key != ""
}

// sharedKey names a set of bindings; "" if the captures count.
func sharedKey(ms []match) string {
	var key []byte
	for _, m := range ms {
		if m.captures || !m.caps.safe() {
			return ""
		}
		key = binary.BigEndian.AppendUint32(key, uint32(m.index))
	}
	return string(key)
}

// AutoCreate returns the settings that a missing topic of this name is created with,
// by the first auto_create rule that matches. ok is false if none does.
func (p *Policy) AutoCreate(name topic.Name) (spec Spec, ok bool) {
	for i := range p.auto {
		if p.auto[i].matches(name) {
			return p.auto[i].spec, true
		}
	}
	return Spec{}, false
}
