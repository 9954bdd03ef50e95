package cluster_test

import (
	"errors"
	"slices"
	"time"
)

// scenario is a sort of fault. round does it once, for a while, and mends it.
type scenario struct {
	name  string
	round func(s *tale)
}

var scenarios = []scenario{
	{"leader alone", func(s *tale) {
		s.alone(s.leading(), true)
		s.sleep(500, 12_000)
		s.alone(s.cut, false)
	}},
	{"bridge", func(s *tale) {
		a, b := s.two()
		s.hold(a, b, true)
		s.hold(b, a, true)
		s.sleep(500, 8000)
		s.hold(a, b, false)
		s.hold(b, a, false)
	}},
	{"asymmetric", func(s *tale) {
		leader, speaks := s.leading(), s.random.IntN(2) == 0
		s.oneWay(leader, speaks, true)
		s.sleep(500, 8000)
		s.oneWay(leader, speaks, false)
	}},
	{"ring", func(s *tale) {
		ids := s.shuffled()
		for i, id := range ids {
			s.hold(id, ids[(i+1)%3], true)
		}
		s.sleep(500, 8000)
		for i, id := range ids {
			s.hold(id, ids[(i+1)%3], false)
		}
	}},
	{"flapping", func(s *tale) {
		victim := s.leading()
		for range 10 + s.random.IntN(30) {
			s.alone(victim, true)
			time.Sleep(100 * time.Millisecond)
			s.alone(victim, false)
			time.Sleep(100 * time.Millisecond)
		}
	}},
	{"restart", func(s *tale) {
		victim := s.shuffled()[0]
		s.Kill(victim)
		s.sleep(1, 4000)
		s.Start(victim)
	}},
	{"crash", func(s *tale) {
		victim := s.leading()
		s.alone(victim, true) // it can hand nothing over
		s.Kill(victim)
		s.alone(victim, false)
		s.sleep(1, 4000)
		s.Start(victim)
	}},
	{"transfer", func(s *tale) {
		for range 1 + s.random.IntN(8) {
			s.Nodes[s.leading()].Group.Raft().LeadershipTransfer()
			s.sleep(1, 1500)
		}
	}},
	{"links", func(s *tale) {
		for range 1 + s.random.IntN(4) {
			links := s.Nodes[s.shuffled()[0]].Group.Links()
			links.Suspend(errors.New("the test stops them"))
			s.sleep(1, 3000)
			links.Resume()
			s.sleep(1, 1000)
		}
	}},
}

// leading is who leads, or any node while nobody does.
func (s *tale) leading() string {
	for _, id := range s.IDs {
		if n := s.Nodes[id]; n != nil {
			if _, self := n.Group.Leader(); self {
				s.cut = id
				return id
			}
		}
	}
	s.cut = s.shuffled()[0]
	return s.cut
}

func (s *tale) shuffled() []string {
	ids := slices.Clone(s.IDs)
	s.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func (s *tale) two() (string, string) {
	ids := s.shuffled()
	return ids[0], ids[1]
}

// hold cuts the way from one node to another, or opens it.
func (s *tale) hold(from, to string, cut bool) {
	if cut {
		s.Peers.Hold(from, to)
	} else {
		s.Peers.Release(from, to)
	}
}

// oneWay cuts the ways from a node to all others, or those to it.
func (s *tale) oneWay(id string, from, cut bool) {
	for _, other := range s.IDs {
		switch {
		case other == id:
		case from:
			s.hold(id, other, cut)
		default:
			s.hold(other, id, cut)
		}
	}
}

// alone cuts a node off from all others.
func (s *tale) alone(id string, cut bool) {
	s.oneWay(id, true, cut)
	s.oneWay(id, false, cut)
}
