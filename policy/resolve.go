package policy

import "slices"

// resolve ties bindings to their roles once the whole document is read, and checks what
// can only be seen then.
func (p *parser) resolve() {
	literal := map[string]int{}
	wild := 0
	for _, b := range p.doc.bindings {
		p.resolveRoles(b)
		if b.identity.text == "" {
			continue
		}
		p.checkCaptures(b)
		if !b.identity.literal {
			wild += b.patterns()
		} else {
			literal[b.identity.text] += b.patterns()
		}
		if most := wild + literal[b.identity.text]; most > perSubjectMax {
			p.faultAt(b.line, "with this binding one identity can get more than %d patterns", perSubjectMax)
			return
		}
	}
	p.checkWorst(wild, literal)
}

// checkWorst bounds the literal bindings together with the wildcard ones behind them.
func (p *parser) checkWorst(wild int, literal map[string]int) {
	for _, n := range literal {
		if wild+n > perSubjectMax {
			p.faultAt(0, "one identity can get more than %d patterns from all of its bindings", perSubjectMax)
			return
		}
	}
}

func (p *parser) resolveRoles(b *binding) {
	for _, ref := range b.roles {
		r, ok := p.doc.roles[ref.name]
		if !ok {
			p.faultAt(ref.line, "there is no role %.64q in roles", ref.name)
			continue
		}
		b.rules = append(b.rules, r.rules...)
	}
}

// checkCaptures refuses a template whose capture the binding's identity does not make,
// and notes whether there is any.
func (p *parser) checkCaptures(b *binding) {
	names := b.identity.captureNames()
	for _, r := range b.rules {
		for _, t := range slices.Concat(r.topics, r.groups) {
			b.captures = b.captures || len(t.uses) > 0
			for _, use := range t.uses {
				if !slices.Contains(names, use) {
					p.faultAt(b.line, "%s uses {%s} (line %d), which the identity %.128q does not capture", r.on.Rule, use, r.on.Line, b.identity.text)
					return
				}
			}
		}
	}
}
