package policy

import (
	"fmt"
	"slices"
	"strings"
)

// LocksOut reports whether replacing old (nil if there was none) by p would leave the
// cluster without an administrator, or take admin from the caller who has it under old
// (caller "" = none, as for an operator's tool). The error wraps ErrLockout.
func (p *Policy) LocksOut(old *Policy, caller string) error {
	if !p.hasAdmin() {
		return fmt.Errorf("%w: no identity would have the verb admin", ErrLockout)
	}
	had := caller != "" && old != nil && old.For(caller).Has(Admin).Allow
	if d := p.For(caller).Has(Admin); had && !d.Allow {
		return fmt.Errorf("%w: %s, who applies it, would lose the verb admin (%s)", ErrLockout, caller, d.Reason)
	}
	return nil
}

// hasAdmin reports whether some identity has admin. Only bindings that allow it can give
// it. For a pattern it asks about an identity that no rule names: if that is denied, all
// that match are.
func (p *Policy) hasAdmin() bool {
	for id, bs := range p.literal {
		if slices.ContainsFunc(bs, allowsAdmin) && p.For(id).Has(Admin).Allow {
			return true
		}
	}
	for _, b := range p.wild {
		if allowsAdmin(b) && p.anyAdmin(&b.identity) {
			return true
		}
	}
	return false
}

// freshSegment stands for a segment that no document names. It is safe as a capture.
const freshSegment = "any-identity-that-no-rule-names"

// witnessTail is how many segments a witness has behind '>', at most. A document that
// denies all of these lengths and allows longer ones counts as locked out.
const witnessTail = 8

// anyAdmin asks about witnesses of an identity pattern, one per length.
func (p *Policy) anyAdmin(id *identityPattern) bool {
	witness := make([]string, len(id.parts), len(id.parts)+witnessTail)
	for i, seg := range id.parts {
		if seg == "*" || strings.HasPrefix(seg, "{") {
			seg = freshSegment
		}
		witness[i] = seg
	}
	if !id.tail {
		return p.isAdmin(id.scheme, witness)
	}
	for range witnessTail {
		witness = append(witness, freshSegment)
		if p.isAdmin(id.scheme, witness) {
			return true
		}
	}
	return false
}

func (p *Policy) isAdmin(scheme string, parts []string) bool {
	s, _ := p.resolve(scheme + strings.Join(parts, "/"))
	return s.Has(Admin).Allow
}

// allowsAdmin reports whether some rule of the binding allows admin.
func allowsAdmin(b *binding) bool {
	return slices.ContainsFunc(b.rules, func(r *rule) bool { return r.allow && r.verbs.has(Admin) })
}
