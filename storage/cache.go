package storage

import "sync"

// cache bounds the memory of all tails together: the oldest batch goes first, once Badger
// has it.
type cache struct {
	max int64

	mu    sync.Mutex
	order []cached // Guarded by mu. In append order.
	bytes int64    // Guarded by mu.
}

// cached is one batch in some tail; the batches of a partition stand here in the order of
// its tail, so the next one of a partition here is always the first of its tail.
type cached struct {
	part *part
	size int
}

func (c *cache) added(p *part, b *Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = append(c.order, cached{p, len(b.Raw)})
	c.bytes += int64(len(b.Raw))
}

// shrink forgets batches until the rest fits.
func (c *cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 && c.bytes > c.max && c.order[0].part.evict() {
		c.bytes -= int64(c.order[0].size)
		c.order[0] = cached{}
		c.order = c.order[1:]
	}
}

// empty forgets all of them; their parts do, too.
func (c *cache) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order, c.bytes = nil, 0
}

// size is the memory of all tails.
func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
