package policy

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// parser reads a document from YAML nodes. Names of rules are their places in it.
type parser struct {
	reader
	doc      document
	rules    int
	patterns int
}

// parse reads and checks a whole document. The error is Errors.
func parse(doc []byte) (*document, error) {
	p := parser{doc: document{roles: map[string]*role{}}}
	if top := p.root(doc); top != nil {
		p.fields(top, "the policy",
			field{"roles", p.roles},
			field{"bindings", p.bindings},
			field{"auto_create", p.autoCreate},
			field{"tests", p.tests},
		)
	}
	p.resolve()
	return &p.doc, p.err()
}

func (p *parser) roles(n *yaml.Node) {
	if len(n.Content)/2 > rolesMax {
		p.fault(n, "roles has %d items; at most %d are allowed", len(n.Content)/2, rolesMax)
		return
	}
	p.mapping(n, "roles", func(name string, at, value *yaml.Node) {
		if !safeSegment(name) || len(name) > nameBytesMax {
			p.fault(at, "role name %.64q must be of A-Z, a-z, 0-9, '_' and '-', at most %d bytes", name, nameBytesMax)
			return
		}
		r := &role{}
		p.doc.roles[name] = r
		p.fields(value, "a role", p.allowDeny("roles."+name, &r.rules)...)
	})
}

// allowDeny are the fields of whatever holds rules.
func (p *parser) allowDeny(place string, into *[]*rule) []field {
	return []field{
		{"allow", func(n *yaml.Node) { p.ruleList(n, place+".allow", true, into) }},
		{"deny", func(n *yaml.Node) { p.ruleList(n, place+".deny", false, into) }},
	}
}

func (p *parser) ruleList(n *yaml.Node, place string, allow bool, into *[]*rule) {
	p.list(n, place, rulesMax, func(i int, item *yaml.Node) {
		*into = append(*into, p.rule(item, fmt.Sprintf("%s[%d]", place, i), allow))
	})
}

func (p *parser) rule(n *yaml.Node, place string, allow bool) *rule {
	p.rules++
	r := &rule{allow: allow, order: p.rules, on: Decision{Allow: allow, Rule: place, Line: n.Line, Reason: ReasonDenied}}
	if allow {
		r.on.Reason = ReasonAllowed
	}
	before := len(p.faults)
	p.fields(n, "a rule",
		field{"verbs", func(n *yaml.Node) { p.verbs(n, r) }},
		field{"topics", func(n *yaml.Node) { p.templates(n, "topics", &r.topics) }},
		field{"groups", func(n *yaml.Node) { p.templates(n, "groups", &r.groups) }},
	)
	if len(p.faults) == before {
		p.checkRule(n, r)
	}
	if p.rules == rulesMax+1 {
		p.fault(n, "the document has more than %d rules", rulesMax)
	}
	return r
}

func (p *parser) verbs(n *yaml.Node, r *rule) {
	p.list(n, "verbs", int(verbEnd), func(_ int, item *yaml.Node) {
		s, ok := p.text(item, "a verb")
		if !ok {
			return
		}
		v, err := ParseVerb(s)
		if err != nil {
			p.fault(item, "%s", err)
			return
		}
		r.verbs.add(v)
	})
}

func (p *parser) templates(n *yaml.Node, what string, into *[]template) {
	p.list(n, what, patternsMax, func(_ int, item *yaml.Node) {
		s, ok := p.text(item, "a pattern")
		if !ok {
			return
		}
		t, err := parseTemplate(s)
		if err != nil {
			p.fault(item, "%s", err)
			return
		}
		*into = append(*into, t)
		if p.patterns++; p.patterns == patternsMax+1 {
			p.fault(item, "the document has more than %d patterns", patternsMax)
		}
	})
}

// checkRule refuses rules that say nothing, which are slips of the pen.
func (p *parser) checkRule(n *yaml.Node, r *rule) {
	resource := r.verbs & resourceVerbs
	switch {
	case r.verbs == 0:
		p.fault(n, "a rule needs verbs")
	case resource != 0 && r.patterns() == 0:
		p.fault(n, "a rule for publish, subscribe, consume or manage needs topics (consume: or groups)")
	case resource == 0 && r.patterns() != 0:
		p.fault(n, "observe and admin have no topics or groups; give them a rule of their own")
	case len(r.groups) != 0 && !r.verbs.has(Consume):
		p.fault(n, "groups are only for the verb consume")
	case len(r.topics) == 0 && resource&^(1<<Consume) != 0:
		p.fault(n, "a rule for publish, subscribe or manage needs topics")
	}
}

func (p *parser) bindings(n *yaml.Node) {
	p.list(n, "bindings", bindingsMax, func(i int, item *yaml.Node) {
		b := &binding{line: item.Line, index: i}
		place := fmt.Sprintf("bindings[%d]", i)
		known := append([]field{
			{"identity", func(n *yaml.Node) { p.identity(n, &b.identity) }},
			{"roles", func(n *yaml.Node) { p.roleRefs(n, b) }},
		}, p.allowDeny(place, &b.rules)...)
		before := len(p.faults)
		p.fields(item, "a binding", known...)
		if len(p.faults) == before {
			p.checkBinding(item, b)
		}
		p.doc.bindings = append(p.doc.bindings, b)
	})
}

func (p *parser) identity(n *yaml.Node, into *identityPattern) {
	s, ok := p.text(n, "identity")
	if !ok {
		return
	}
	id, err := parseIdentity(s)
	if err != nil {
		p.fault(n, "%s", err)
		return
	}
	*into = id
}

func (p *parser) roleRefs(n *yaml.Node, b *binding) {
	p.list(n, "roles of a binding", rolesMax, func(_ int, item *yaml.Node) {
		name, ok := p.text(item, "a role")
		if !ok {
			return
		}
		for _, have := range b.roles {
			if have.name == name {
				p.fault(item, "role %.64q stands here twice", name)
				return
			}
		}
		b.roles = append(b.roles, roleRef{name, item.Line})
	})
}

func (p *parser) checkBinding(n *yaml.Node, b *binding) {
	switch {
	case b.identity.text == "":
		p.fault(n, "a binding needs an identity")
	case len(b.roles) == 0 && len(b.rules) == 0:
		p.fault(n, "a binding needs roles, allow or deny")
	}
}
