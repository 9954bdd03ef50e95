package client

import (
	"slices"
	"sync"
)

// serverList picks the order in which servers are tried.
type serverList struct {
	addrs []string

	mu sync.Mutex
	// Guarded by mu.
	last   int    // index of the one that welcomed us last
	leader string // leader hint, "" if none
}

// order returns all servers: the leader first when it is one of them, then from the
// last good one on. A hint that is not in the list is not followed: the list is the
// program's word on whom to talk to.
func (l *serverList) order() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Concat(l.addrs[l.last:], l.addrs[:l.last])
	if i := slices.Index(out, l.leader); i > 0 {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, l.leader)
	}
	return out
}

// welcomed notes the server in use.
func (l *serverList) welcomed(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(0, slices.Index(l.addrs, addr))
}

// lost makes the server behind the one in use the next to be tried. The one that was lost does not count as leader any more.
func (l *serverList) lost(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = (l.last + 1) % len(l.addrs)
	if l.leader == addr {
		l.leader = ""
	}
}

// listedLeader is the leader hint if it is one of the servers, else "".
func (l *serverList) listedLeader() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.addrs, l.leader) {
		return ""
	}
	return l.leader
}

// setLeader notes the leader hint.
func (l *serverList) setLeader(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader = addr
}
