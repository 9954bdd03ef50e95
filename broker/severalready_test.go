package broker_test

import (
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
)

// TestSeveralReadiness: an election, also one that takes seconds, does not make a node unready, since it goes on serving; being without
// a leader for so long that clients are refused does, and only as long as they are.
func TestSeveralReadiness(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		each := func(set func(from, to string)) {
			for id := range s.Nodes {
				for other := range s.Nodes {
					if id != other {
						set(id, other)
					}
				}
			}
		}
		unready := func() (list []string) {
			for id, n := range s.Nodes {
				if n.Broker.Quorum() != nil {
					list = append(list, id)
				}
			}
			return list
		}
		each(s.Peers.Hold)
		without := 0
		for range 80 { // 8 s
			time.Sleep(100 * time.Millisecond)
			if list := unready(); list != nil {
				t.Fatalf("unready in an election: %v", list)
			}
			for _, n := range s.Nodes {
				if leader, _ := n.Group.Leader(); leader == "" {
					without++
				}
			}
		}
		if without < 3*50 {
			t.Errorf("there was a leader for most of the time (%d): the test proves little", without)
		}
		each(s.Peers.Release)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if list := unready(); list != nil {
				t.Fatalf("unready after an election: %v", list)
			}
		}
		each(s.Peers.Hold)
		time.Sleep(15 * time.Second)
		if list := unready(); len(list) != len(s.Nodes) {
			t.Errorf("without a leader for long, and unready are %v", list)
		}
		each(s.Peers.Release)
		time.Sleep(20 * time.Second)
		if list := unready(); list != nil {
			t.Errorf("unready with a leader: %v", list)
		}
	})
}
