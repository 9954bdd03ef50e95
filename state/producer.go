package state

// producerKey names a producer. The principal is part of it, so that nobody can
// disturb the sequence of another identity by guessing its id.
type producerKey struct {
	principal string
	id        [16]byte
}

// producer is what the machine remembers of one producer: a window for each partition
// that it wrote to.
type producer struct {
	key     producerKey
	owner   *principal
	usedMs  int64
	windows map[*partition]*window
	links   [orders]link
}

// principal is an identity that has producers, and their order of use.
type principal struct {
	count int
	root  producer
}

// window returns the producer's window on part, or nil. p may be nil (unknown).
func (p *producer) window(part *partition) *window {
	if p == nil {
		return nil
	}
	return p.windows[part]
}

// producers is the set of remembered producers.
type producers struct {
	limits  Limits
	byKey   map[producerKey]*producer
	owners  map[string]*principal
	root    producer // of the order of use of all
	windows int      // of all producers

	generation uint64 // of the newest checkpoint; it shares the windows of older generations
}

func newProducers(l Limits) *producers {
	ps := &producers{limits: l, byKey: map[producerKey]*producer{}, owners: map[string]*principal{}}
	ps.root.makeRoot(ofAll)
	return ps
}

// find looks a producer up without allocating.
func (ps *producers) find(principal []byte, id [16]byte) *producer {
	return ps.byKey[producerKey{string(principal), id}]
}

// use records an accepted publish of p (nil = a new producer) and returns the producer.
func (ps *producers) use(p *producer, part *partition, c *publish, nowMs int64) *producer {
	if p == nil {
		p = ps.add(producerKey{string(c.principal), c.producer})
	}
	ps.touch(p, nowMs)
	w := p.windows[part]
	switch {
	case w == nil:
		w = ps.addWindow(p, part)
	case w.generation != ps.generation:
		w = w.clone(ps.generation)
		p.windows[part] = w
	}
	w.push(c.epoch, sent{offset: part.next, timeMs: nowMs, count: c.info.Count})
	return p
}

// add remembers a new producer. If its principal has too many, the least recently used
// of that principal goes, else if all together are too many, that of all.
func (ps *producers) add(key producerKey) *producer {
	if o := ps.owners[key.principal]; o != nil && o.count >= ps.limits.PrincipalProducers {
		ps.forget(o.root.oldest(ofPrincipal))
	}
	for len(ps.byKey) >= ps.limits.Producers {
		ps.forget(ps.root.oldest(ofAll))
	}
	return ps.link(key)
}

// link makes a producer, the most recently used one.
func (ps *producers) link(key producerKey) *producer {
	owner := ps.owners[key.principal]
	if owner == nil {
		owner = &principal{}
		owner.root.makeRoot(ofPrincipal)
		ps.owners[key.principal] = owner
	}
	p := &producer{key: key, owner: owner, windows: map[*partition]*window{}}
	ps.byKey[key] = p
	owner.count++
	p.linkNewest(&ps.root, ofAll)
	p.linkNewest(&owner.root, ofPrincipal)
	return p
}

// addWindow gives p, the most recently used producer, a window on part. Others are
// forgotten for it if need be; p alone always fits (Limits.withDefaults).
func (ps *producers) addWindow(p *producer, part *partition) *window {
	for ps.windows >= ps.limits.Windows && ps.root.oldest(ofAll) != p {
		ps.forget(ps.root.oldest(ofAll))
	}
	w := &window{generation: ps.generation}
	p.windows[part] = w
	part.producers[p] = struct{}{}
	ps.windows++
	return w
}

// touch makes p the most recently used producer.
func (ps *producers) touch(p *producer, nowMs int64) {
	p.usedMs = nowMs
	if ps.root.newest(ofAll) == p {
		return
	}
	p.unlink(ofAll)
	p.unlink(ofPrincipal)
	p.linkNewest(&ps.root, ofAll)
	p.linkNewest(&p.owner.root, ofPrincipal)
}

// expire forgets the producers that nobody has used for ProducerTTL.
func (ps *producers) expire(nowMs int64) {
	limit := nowMs - ProducerTTL.Milliseconds()
	for p := ps.root.oldest(ofAll); p != &ps.root && p.usedMs <= limit; p = ps.root.oldest(ofAll) {
		ps.forget(p)
	}
}

// forget removes p.
func (ps *producers) forget(p *producer) {
	ps.windows -= len(p.windows)
	for part := range p.windows {
		delete(part.producers, p)
	}
	p.unlink(ofAll)
	p.unlink(ofPrincipal)
	delete(ps.byKey, p.key)
	if p.owner.count--; p.owner.count == 0 {
		delete(ps.owners, p.key.principal)
	}
}

// dropPartition removes every window on a partition that is gone.
func (ps *producers) dropPartition(part *partition) {
	ps.windows -= len(part.producers)
	for p := range part.producers {
		delete(p.windows, part)
	}
	clear(part.producers)
}
