package policy

import "sync"

// cache keeps subjects under a key. It is emptied when it would hold more than
// cacheWeightMax patterns: subjects in use live on with their users.
type cache struct {
	mu sync.RWMutex
	// Guarded by mu.
	subjects map[string]*Subject
	weight   int
}

func (c *cache) get(key string) *Subject {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.subjects[key]
}

// put adds a subject. A shared one is held, and counted, elsewhere too.
func (c *cache) put(key string, s *Subject, shared bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := 1
	if !shared {
		w += len(s.grants)
	}
	if c.subjects == nil || c.weight+w > cacheWeightMax {
		c.subjects, c.weight = map[string]*Subject{}, 0
	}
	c.subjects[key] = s
	c.weight += w
}
