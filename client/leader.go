package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Every broker takes records, and passes them on to the leader. To save that hop the producer moves to a second connection, to
// the leader, if Options.Servers has its address; subscriptions and requests stay where they are. When that connection is lost
// the producer is back on the first one at once. Consumers of groups are at the leader, too: over that connection, if there is one. Batches without an answer are sent again as they are, so a move loses
// and doubles nothing, and keeps the order.

// Times of moving to the leader.
const (
	moveDelay    = 200 * time.Millisecond // to twice that, before a move: clients do not come all at once, and an election may not be the last
	moveDelayMax = time.Minute            // at most before the next attempt at a leader that cannot be used
	drainTimeout = time.Second            // what has no answer after that is sent again elsewhere
)

var errMoved = errors.New("publishing has moved to another connection")

// moveAfter is how long to wait before a move behind so many failures in a row.
func moveAfter(failures int) time.Duration {
	d := min(moveDelay<<min(failures, 10), moveDelayMax/2)
	return d + rand.N(d)
}

// leaderLoop moves the producer to the leader and back until ctx ends.
func (c *Client) leaderLoop(ctx context.Context) {
	var (
		held     *session // the latest connection to a leader
		target   string
		failures int
		due      time.Time
	)
	for ctx.Err() == nil {
		if held != nil && held.ended() {
			if failures++; time.Since(held.born) > steadyAfter {
				failures = 0
			}
			held, due = nil, time.Now().Add(moveAfter(failures))
		}
		now, at := c.target()
		if now != target {
			target, failures, due = now, 0, time.Now().Add(moveAfter(0))
		}
		wait := time.Until(due)
		switch {
		case target == at:
			wait = time.Hour
		case target == "":
			c.leaveLeader()
			continue
		case wait <= 0:
			s, err := c.follow(ctx, target)
			if held = s; err != nil {
				c.log.Info("publishing does not move: the leader cannot be used", "leader", target, "error", err)
				failures++
				due = time.Now().Add(moveAfter(failures))
			}
			continue
		}
		c.awaitHint(ctx, wait)
	}
}

// awaitHint waits until something has changed, or for d.
func (c *Client) awaitHint(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.hinted:
	case <-t.C:
	case <-ctx.Done():
	}
}

// target is the server to which the producer should have a connection of its own, and at the one to which it has; "" is none: it
// shares the client's. They are the same while nobody knows better.
func (c *Client) target() (target, at string) {
	leader := c.servers.listedLeader()
	using := c.producer.inUse()
	c.mu.Lock()
	defer c.mu.Unlock()
	using = using || len(c.consumers) > 0
	if c.lead != nil {
		at = c.lead.server
	}
	switch {
	case c.opts.StayOnServer:
		return "", at
	case leader == "" || c.sess == nil || !using:
		return at, at
	case leader == c.sess.server || leader == c.same && c.sameAs == c.sess.number:
		return "", at
	}
	return leader, at
}

// follow connects to the leader and moves the producer there. A leader that turns out to be the node of the client's own
// connection, by another address, is noted.
func (c *Client) follow(ctx context.Context, leader string) (*session, error) {
	s, err := c.connectTo(ctx, leader)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	home, old := c.sess, c.lead
	same := home != nil && home.welcome.Node == s.welcome.Node
	switch {
	case home == nil || home.welcome.Cluster != s.welcome.Cluster:
		err = errors.New("it is not of the cluster of this connection")
	case same:
		c.same, c.sameAs = leader, home.number
	case s.welcome.Leader != leader:
		err = fmt.Errorf("it says that the leader is at %q", s.welcome.Leader)
	default:
		c.lead = s
	}
	c.mu.Unlock()
	if err != nil || same {
		s.fail(errMoved)
		return nil, err
	}
	s.publishes = true
	s.start()
	c.carry()
	if old != nil {
		old.fail(errMoved)
	}
	c.wg.Go(func() { c.leaderLost(s, s.waitOr(ctx)) })
	for _, k := range c.memberships() {
		k.attach()
	}
	c.log.Info("publishing moved to the leader", "server", s.server, "node", s.welcome.Node)
	c.events.put(&MovedEvent{Server: s.server, Node: s.welcome.Node})
	return s, nil
}

// leaveLeader moves the producer back to the client's own connection.
func (c *Client) leaveLeader() {
	c.mu.Lock()
	s := c.lead
	c.lead = nil
	c.mu.Unlock()
	c.carry()
	if s != nil {
		s.fail(errMoved)
	}
}

// leaderLost takes an ended connection to the leader out of use.
func (c *Client) leaderLost(s *session, err error) {
	c.mu.Lock()
	if c.lead == s {
		c.lead = nil
	}
	c.mu.Unlock()
	c.carry()
	for _, k := range c.memberships() {
		k.lost(s)
	}
	if !errors.Is(err, errMoved) && !errors.Is(err, ErrClosed) {
		c.log.Info("the connection to the leader was lost; publishing is back", "server", s.server, "error", err)
	}
	poke(c.hinted)
}

// leaderSession is the session to the leader, else the client's own; nil = there is none.
func (c *Client) leaderSession() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lead != nil && !c.lead.ended() {
		return c.lead
	}
	if c.sess != nil && !c.sess.ended() {
		return c.sess
	}
	return nil
}

// memberships are the consumers of now.
func (c *Client) memberships() []*Consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.consumers))
}

func (c *Client) removeConsumer(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.consumers, id)
}

// carry gives the producer the session that it should have: the one to the leader, else the client's own, if there is one.
func (c *Client) carry() {
	c.carrying.Lock()
	defer c.carrying.Unlock()
	c.mu.Lock()
	s := c.lead
	if s == nil {
		s = c.sess
	}
	c.mu.Unlock()
	c.producer.use(s)
}

// hint notes who leads.
func (c *Client) hint(leader string) {
	c.servers.setLeader(leader)
	poke(c.hinted)
}
