package policy

import (
	"strings"

	"github.com/waxwing-mq/waxwing/topic"
)

// node is one place in a trie of patterns, a level per segment. Looking a name up costs
// a few steps per segment, however many patterns there are.
type node struct {
	kids map[string]*node // by literal segment
	star *node            // behind '*'
	end  hit              // patterns that end here
	tail hit              // patterns that end in '>' here
}

// hit holds the first allow and the first deny, in document order, of a place.
type hit struct {
	allow, deny *rule
}

// add keeps r if it comes before what is there.
func (h *hit) add(r *rule) {
	place := &h.deny
	if r.allow {
		place = &h.allow
	}
	if *place == nil || r.order < (*place).order {
		*place = r
	}
}

func (h *hit) merge(from *hit) {
	if from.allow != nil {
		h.add(from.allow)
	}
	if from.deny != nil {
		h.add(from.deny)
	}
}

// insert adds a pattern of a rule.
func (n *node) insert(p topic.Pattern, r *rule) {
	rest, more := p.String(), true
	for more {
		var seg string
		seg, rest, more = strings.Cut(rest, ".")
		if seg == ">" {
			n.tail.add(r)
			return
		}
		n = n.child(seg)
	}
	n.end.add(r)
}

// child returns the node behind a segment, made if need be.
func (n *node) child(seg string) *node {
	if seg == "*" {
		if n.star == nil {
			n.star = &node{}
		}
		return n.star
	}
	kid := n.kids[seg]
	if kid == nil {
		kid = &node{}
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		n.kids[seg] = kid
	}
	return kid
}

// find merges the hits of all patterns that match the rest of a name.
func (n *node) find(rest string, best *hit) {
	best.merge(&n.tail)
	seg, rest, more := strings.Cut(rest, ".")
	if kid := n.kids[seg]; kid != nil {
		kid.descend(rest, more, best)
	}
	if n.star != nil {
		n.star.descend(rest, more, best)
	}
}

func (n *node) descend(rest string, more bool, best *hit) {
	if more {
		n.find(rest, best)
		return
	}
	best.merge(&n.end)
}
