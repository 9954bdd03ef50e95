package policy

import (
	"slices"

	"github.com/waxwing-mq/waxwing/topic"
)

// Subject is what a policy says about one principal.
type Subject struct {
	none   Decision // when no rule matches
	topics [verbEnd]node
	groups node         // of Consume
	plain  [verbEnd]hit // verbs without a resource
	grants []grant      // by document order
}

// grant is one pattern of one rule.
type grant struct {
	rule    *rule
	pattern topic.Pattern
	group   bool
}

// noSubject may do nothing.
func noSubject(version uint64, reason string) *Subject {
	return &Subject{none: Decision{Version: version, Reason: reason}}
}

// bind adds the rules of a binding. If a captured segment could not stand in a topic,
// the binding allows nothing; its denies hold, and those with a capture deny all that
// begins like them.
func (s *Subject) bind(b *binding, caps captures) {
	safe := caps.safe()
	for _, r := range b.rules {
		if r.allow && !safe {
			continue
		}
		s.addPlain(r)
		s.addPatterns(r, r.topics, caps, false)
		s.addPatterns(r, r.groups, caps, true)
	}
}

// addPlain adds the verbs of a rule that have no resource.
func (s *Subject) addPlain(r *rule) {
	for _, v := range Verbs() {
		if r.verbs.has(v) && !v.HasResource() {
			s.plain[v].add(r)
		}
	}
}

func (s *Subject) addPatterns(r *rule, ts []template, caps captures, group bool) {
	for i := range ts {
		pattern, ok := ts[i].fill(caps)
		if r.allow && !ok {
			continue
		}
		s.grants = append(s.grants, grant{r, pattern, group})
		if group {
			s.groups.insert(pattern, r)
			continue
		}
		for _, v := range Verbs() {
			if r.verbs.has(v) && v.HasResource() {
				s.topics[v].insert(pattern, r)
			}
		}
	}
}

// sort puts the grants into document order.
func (s *Subject) sort() {
	slices.SortStableFunc(s.grants, func(a, b grant) int { return a.rule.order - b.rule.order })
}

// Decide says whether the subject may use a verb on a topic. It does not allocate. The
// rule it names is the first in the document that matches, among the denies if one does.
func (s *Subject) Decide(v Verb, name topic.Name) Decision {
	if !v.HasResource() || name == "" {
		return s.none
	}
	return s.decide(&s.topics[v], name)
}

// DecideGroup says whether the subject may consume through a group of this name. The
// topics of the group are a question of their own: Decide(Consume, topic).
func (s *Subject) DecideGroup(group topic.Name) Decision {
	if group == "" {
		return s.none
	}
	return s.decide(&s.groups, group)
}

func (s *Subject) decide(n *node, name topic.Name) Decision {
	var best hit
	n.find(string(name), &best)
	return s.verdict(&best)
}

// verdict: deny beats allow, nothing is deny.
func (s *Subject) verdict(h *hit) Decision {
	switch {
	case h.deny != nil:
		return h.deny.on
	case h.allow != nil:
		return h.allow.on
	}
	return s.none
}

// Has decides on a verb without a resource: Observe or Admin.
func (s *Subject) Has(v Verb) Decision {
	if v >= verbEnd {
		return s.none
	}
	return s.verdict(&s.plain[v])
}

// Rights lists what the rules say about the subject, in document order, verbs without a
// resource first. Denies are listed, too: they cut into every allow.
func (s *Subject) Rights() []Right {
	var rights []Right
	for _, v := range Verbs() {
		if d := s.Has(v); d.Rule != "" {
			rights = append(rights, Right{d.Allow, v, "", d.Rule, d.Line})
		}
	}
	for _, g := range s.grants {
		rights = append(rights, g.rights()...)
	}
	return rights
}

// rights is one line per verb.
func (g *grant) rights() []Right {
	on := &g.rule.on
	if g.group {
		return []Right{{on.Allow, Consume, groupPrefix + g.pattern.String(), on.Rule, on.Line}}
	}
	var rights []Right
	for _, v := range Verbs() {
		if g.rule.verbs.has(v) && v.HasResource() {
			rights = append(rights, Right{on.Allow, v, g.pattern.String(), on.Rule, on.Line})
		}
	}
	return rights
}
