package policy

import "github.com/waxwing-mq/waxwing/topic"

// DecidePattern says whether the subject may use a verb on a pattern: whether every
// name that it matches is allowed by the allow rules together. Names in it that a deny
// rule cuts out are decided one by one at delivery; only if the denies cover the whole
// pattern is it denied here. A pattern without wildcard is decided as the name it is.
func (s *Subject) DecidePattern(v Verb, p topic.Pattern) Decision {
	if name, ok := p.Literal(); ok {
		return s.Decide(v, name)
	}
	if !v.HasResource() {
		return s.none
	}
	if deny, _ := s.covering(v, p, false); deny != nil {
		return deny.on
	}
	allow, alone := s.covering(v, p, true)
	if allow == nil {
		return s.partly(v, p)
	}
	d := allow.on
	if !alone {
		d.Reason = ReasonCombined
	}
	return d
}

// covering returns the first rule (allow or deny) with a pattern that covers p alone,
// or, if all such rules cover it together, the first that overlaps it; else nil.
func (s *Subject) covering(v Verb, p topic.Pattern, allow bool) (r *rule, alone bool) {
	var union []topic.Pattern
	var first *rule
	for _, g := range s.grants {
		if g.group || g.rule.allow != allow || !g.rule.verbs.has(v) || !g.pattern.Overlaps(p) {
			continue
		}
		if topic.Covered(p, []topic.Pattern{g.pattern}) {
			return g.rule, true
		}
		if first == nil {
			first = g.rule
		}
		union = append(union, g.pattern)
	}
	if first != nil && topic.Covered(p, union) {
		return first, false
	}
	return nil, false
}

// partly is the denial of a pattern that the allow rules do not cover.
func (s *Subject) partly(v Verb, p topic.Pattern) Decision {
	d := s.none
	for _, g := range s.grants {
		if !g.group && g.rule.allow && g.rule.verbs.has(v) && g.pattern.Overlaps(p) {
			d.Reason = ReasonPartly
			break
		}
	}
	return d
}
