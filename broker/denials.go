package broker

import (
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
)

// denials bounds how often one identity can write one reason into the log, and how many reasons: the first line
// of a period goes through, the rest is counted. Who asks for another name each time does not fill the disk.
type denials struct {
	mu   sync.Mutex
	seen map[denialKey]*denial // Guarded by mu.
}

type denialKey struct{ who, why string }

type denial struct {
	since   time.Time // of the period
	lines   int       // written in it
	skipped int       // kept back since the last line
}

const (
	denialPeriod   = time.Second
	denialsMax     = 4096 // then the book starts anew
	denialLinesMax = 20   // of one identity in a period, whatever the reasons
)

// allow reports whether a line may be written, and how many were kept back before it.
func (d *denials) allow(who, why string) (skipped int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) > denialsMax {
		d.seen = map[denialKey]*denial{}
	}
	now := time.Now()
	all := d.entry(denialKey{who: who}, now)
	if all.lines >= denialLinesMax { // no entry for the reason: there may be any number
		all.skipped++
		return 0, false
	}
	one := d.entry(denialKey{who, why}, now)
	if one.lines > 0 {
		one.skipped++
		return 0, false
	}
	one.lines++
	all.lines++
	skipped = one.skipped + all.skipped
	one.skipped, all.skipped = 0, 0
	return skipped, true
}

// entry finds or begins the count of a period.
func (d *denials) entry(k denialKey, now time.Time) *denial {
	e := d.seen[k]
	if e == nil {
		e = &denial{since: now}
		d.seen[k] = e
	}
	if now.Sub(e.since) >= denialPeriod {
		e.since, e.lines = now, 0
	}
	return e
}

// clip makes a text from a peer fit for the log.
func clip(s string) string { return identity.Printable(s, 256) }
