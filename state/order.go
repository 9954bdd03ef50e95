package state

// order is one of the two orders of use that a producer stands in. Each is a ring
// through a root that is no producer.
type order int

const (
	ofAll order = iota
	ofPrincipal

	orders
)

// link are the neighbours of a producer in an order.
type link struct {
	older, newer *producer
}

func (root *producer) makeRoot(o order) { root.links[o] = link{root, root} }

// oldest is the least recently used producer, or root itself if there is none.
func (root *producer) oldest(o order) *producer { return root.links[o].newer }

// newest is the most recently used one, or root itself.
func (root *producer) newest(o order) *producer { return root.links[o].older }

// linkNewest puts p behind the newest.
func (p *producer) linkNewest(root *producer, o order) {
	last := root.newest(o)
	p.links[o] = link{older: last, newer: root}
	last.links[o].newer, root.links[o].older = p, p
}

func (p *producer) unlink(o order) {
	l := p.links[o]
	l.older.links[o].newer, l.newer.links[o].older = l.newer, l.older
	p.links[o] = link{}
}
