package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// shuffle is a fleet whose members change while nodes die, come back and are cut off.
type shuffle struct {
	*fleet
	random  *rand.Rand
	live    atomic.Pointer[[]*member] // what clients may use
	changes sync.WaitGroup            // under way
	did     map[string]int
}

// TestR04Members: nodes are added, removed and lose their vote while others die and links break, also in the middle of a change, and
// clients publish through any of them. Every acknowledged record is on every member, once, in order; all agree who the members are.
func TestR04Members(t *testing.T) {
	lane.Need(t, 2, "R-04")
	for seed := range lane.Pick(0, 2, 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shuffle{fleet: newFleet(t, threeIDs...), random: rand.New(rand.NewPCG(uint64(seed), 4)), did: map[string]int{}}
				s.run(uint64(seed))
			})
		})
	}
}

func (s *shuffle) run(seed uint64) {
	const count = 400
	s.startAll()
	part := createTopic(s.t, s.ready(s.ids...).Group, "orders")
	s.settle()
	s.tidy()
	var authors []*author
	var work sync.WaitGroup
	for i := range 3 {
		a := &author{s.t, s.submitter(i), byte(i + 1), part, map[string]int{}}
		authors = append(authors, a)
		work.Go(func() { a.write(count, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	written := make(chan struct{})
	go func() {
		work.Wait()
		close(written)
	}()
	for over := false; !over; {
		select {
		case <-written:
			over = true
		case <-time.After(time.Duration(100+s.random.IntN(1500)) * time.Millisecond):
			s.step()
			s.tidy()
		}
	}
	s.changes.Wait()
	s.finish()
	s.t.Logf("seed %d: %v; members %v", seed, s.did, s.ids)
	s.same()
	for _, id := range s.ids {
		s.nodes[id].holdsOf(s.t, part, authors, count)
	}
}

// submitter is one client: it stays with a node for as long as that runs, and goes to another one with nothing in flight.
func (s *shuffle) submitter(number int) func(cluster.Judged, []byte, cluster.Done) {
	var at *member
	var inFlight atomic.Int64
	return func(j cluster.Judged, cmd []byte, done cluster.Done) {
		if live := *s.live.Load(); inFlight.Load() == 0 && !slices.Contains(live, at) {
			at = live[number%len(live)]
		}
		inFlight.Add(1)
		at.Group.Submit(j, cmd, func(r state.Result, index uint64, err error) {
			inFlight.Add(-1)
			done(r, index, err)
		})
	}
}

// publishes tells clients which nodes run, but for one that is about to end.
func (s *shuffle) publishes(but string) {
	var list []*member
	for _, id := range s.running() {
		if id != but {
			list = append(list, s.nodes[id])
		}
	}
	s.live.Store(&list)
}

// tidy ends the nodes that know that they were removed.
func (s *shuffle) tidy() {
	for _, id := range s.running() {
		select {
		case <-s.nodes[id].Group.Removed():
			s.end(id)
			s.drop(id)
		default:
		}
	}
	s.publishes("")
}

func (s *shuffle) end(id string) {
	s.publishes(id)
	s.kill(id)
}

func (s *shuffle) drop(id string) {
	s.ids = slices.DeleteFunc(slices.Clone(s.ids), func(i string) bool { return i == id })
}

// again starts a node that was ended, unless it has learned meanwhile that it was removed.
func (s *shuffle) again(id string) {
	_, err := s.open(id, s.joiner(id, s.running()[0]))
	switch {
	case errors.Is(err, cluster.ErrRemoved):
		s.drop(id)
	case err != nil:
		s.t.Fatal(err)
	}
	s.publishes("")
}

func (s *shuffle) any() *member {
	running := s.running()
	return s.nodes[running[s.random.IntN(len(running))]]
}

func (s *shuffle) leader() *member {
	for _, id := range s.running() {
		if s.nodes[id].Group.Raft().State() == raft.Leader {
			return s.nodes[id]
		}
	}
	return s.any()
}

// ask begins a change by way of any node; what becomes of it does not matter.
func (s *shuffle) ask(what string, c protocol.MemberChange) {
	s.did[what]++
	through := s.any()
	s.changes.Go(func() { _ = through.change(s.t, c) })
}

// step does one thing, or one in the middle of another.
func (s *shuffle) step() {
	switch s.random.IntN(6) {
	case 0:
		s.add()
	case 1:
		s.takeAway()
	case 2:
		victim := s.any()
		if l := s.leader(); victim != l {
			s.did["demote"]++
			l.Group.Raft().DemoteVoter(victim.id, 0, time.Second) // the leader gives it back
		}
	case 3:
		s.ask("transfer", protocol.MemberChange{Action: protocol.ActionTransfer})
	case 4:
		s.disturb(s.any())
	case 5:
		if s.random.IntN(2) == 0 {
			s.add()
		} else {
			s.takeAway()
		}
		time.Sleep(time.Duration(s.random.IntN(1500)) * time.Millisecond)
		s.disturb(s.leader())
	}
}

// add starts a node that was never there, before or after it is let in.
func (s *shuffle) add() {
	if len(s.ids) >= 5 {
		return
	}
	id := fmt.Sprintf("n%d", 4+s.did["join"])
	knows := string(s.any().id)
	s.ask("join", protocol.MemberChange{Action: protocol.ActionJoin, Node: id, Address: s.address(id)})
	time.Sleep(time.Duration(s.random.IntN(1000)) * time.Millisecond)
	s.adopt(id)
	s.start(id, s.joiner(id, knows))
}

func (s *shuffle) takeAway() {
	if len(s.ids) > 3 {
		s.ask("remove", protocol.MemberChange{Action: protocol.ActionRemove, Node: string(s.any().id)})
	}
}

// disturb ends a node or cuts it off for a while.
func (s *shuffle) disturb(m *member) {
	id, wait := string(m.id), time.Duration(s.random.IntN(5000))*time.Millisecond
	if s.random.IntN(2) == 0 {
		s.did["cut"]++
		m.Group.Links().Suspend(errors.New("the test cuts it off"))
		time.Sleep(wait)
		m.Group.Links().Resume()
		return
	}
	s.did["kill"]++
	s.end(id)
	time.Sleep(wait)
	s.again(id)
}

// finish waits until the leader has nothing more to change, and ends who was removed without learning it.
func (s *shuffle) finish() {
	s.t.Helper()
	eventually(s.t, "raft's configuration is what the state says, and all vote", func() bool {
		s.tidy()
		l := s.leader()
		wanted := 0
		for _, m := range l.Group.View().Members() {
			if m.Removed {
				if s.nodes[m.Node] != nil {
					s.end(m.Node)
				}
				s.drop(m.Node)
				continue
			}
			wanted++
			if !l.voter(m.Node) {
				return false
			}
		}
		return wanted == len(s.ids) && len(l.Group.Raft().GetConfiguration().Configuration().Servers) == wanted
	})
}
