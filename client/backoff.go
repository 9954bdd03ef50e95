package client

import (
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two attempts.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

// backoff is an exponential wait with full jitter, so that the clients of a
// restarted broker do not come back all at once. The zero value is ready.
type backoff struct{ attempt int }

// next returns how long to wait before the coming attempt.
func (b *backoff) next() time.Duration {
	ceiling := backoffMax
	if b.attempt < 7 { // 50 ms << 7 is above backoffMax
		ceiling = min(backoffMax, backoffMin<<b.attempt)
	}
	b.attempt++
	return backoffMin/2 + rand.N(ceiling)
}

func (b *backoff) reset() { b.attempt = 0 }
