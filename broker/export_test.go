package broker

import (
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// SweepAccounts forgets the accounts that can be forgotten at a moment, and says how many are left.
func SweepAccounts(s *Server, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepAt = 0
	s.sweepLocked(now)
	return len(s.accounts)
}

// HoldSync keeps a server from taking over what the state says of policy and revocations, until release.
func HoldSync(s *Server) (release func()) {
	s.follow.Lock()
	return s.follow.Unlock
}

// Denials is the book of what was logged of refusals.
type Denials struct{ denials }

// Allow asks whether a line may be written.
func (d *Denials) Allow(who, why string) (skipped int, ok bool) { return d.allow(who, why) }

// RequestKinds are the kinds of the table, for tests that must cover each.
func RequestKinds() map[protocol.Kind]string {
	kinds := map[protocol.Kind]string{}
	for k, r := range requests {
		if r.right.needs {
			kinds[k] = r.right.verb.String()
		} else {
			kinds[k] = ""
		}
	}
	return kinds
}
