package cluster_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/storage"
)

func ignore(storage.SegmentStatus) {}

// survivor looks at the folder of a stopped node.
func survivor(t testing.TB, dir string) *cluster.Survivor {
	t.Helper()
	s, err := cluster.OpenSurvivor(t.Context(), dir, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recoverFolder makes a cluster of one of a stopped node's folder.
func recoverFolder(t testing.TB, dir string) cluster.Found {
	t.Helper()
	s := survivor(t, dir)
	err := s.Recover(t.Context(), recoverOptions)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return s.Found
}

// TestB04Recover: of three nodes one survives, which was away while records were acknowledged by the others. What it had is said
// before, and is all there afterwards. When the two that were lost come back all the same, and go on as the old cluster, they
// have no way to it, however often it starts. New nodes join it under new ids.
func TestB04Recover(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		one := string(f.follower(leader).id)
		f.stop(one)
		leader.fill(t, p, 20, 40)
		old := leader.Group.View().ClusterID()
		others := f.running()
		f.stopAll()

		s := survivor(t, f.dir(one))
		found := s.Found
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if found.Progress != cluster.Lost || found.Cluster != old || found.Node != one || len(found.Members) != 3 || !slices.Equal(found.Shut, others) || found.LastTerm == 0 {
			t.Errorf("found %+v", found)
		}
		if len(found.Partitions) != 1 || found.Partitions[0] != (cluster.FoundPartition{Topic: "orders", Next: 20}) {
			t.Errorf("found %+v", found.Partitions)
		}
		if most := survivor(t, f.dir(string(leader.id))); most.Found.Last <= found.Last || most.Found.Partitions[0].Next != 40 {
			t.Errorf("the leader had %+v, %s %+v", most.Found, one, found)
		} else if err := most.Close(); err != nil {
			t.Fatal(err)
		}

		after := recoverFolder(t, f.dir(one))
		if after.Cluster == old || after.Progress != cluster.Alone || after.LastTerm <= found.LastTerm || after.Last <= found.Last {
			t.Errorf("recovered %+v of %+v", after, found)
		}
		if again := recoverFolder(t, f.dir(one)); again.Cluster != after.Cluster || again.Progress != cluster.Alone || !slices.Equal(again.Shut, others) {
			t.Errorf("recovered again %+v", again)
		}

		n := f.start(one)
		f.ready(one)
		n.holds(t, p, 20)
		n.fill(t, p, 20, 30)
		for _, id := range others {
			f.start(id)
		}
		past := f.ready(others...)
		for next := 30; next < 60; next += 10 {
			time.Sleep(30 * time.Second)
			past.holds(t, p, 40)
			n.holds(t, p, next)
			f.stop(one)
			n = f.start(one)
			f.ready(one)
			n.fill(t, p, next, next+10)
			if n.Group.View().ClusterID() != after.Cluster || past.Group.View().ClusterID() != old {
				t.Fatalf("clusters %s and %s", n.Group.View().ClusterID(), past.Group.View().ClusterID())
			}
		}
		for _, id := range others {
			f.stop(id)
		}

		f.ids = []string{one}
		for _, id := range []string{"n4", "n5"} {
			f.adopt(id)
			f.start(id, f.joiner(id, one))
			f.join(n, id)
			eventually(t, id+" votes", func() bool { return n.voter(id) })
		}
		f.same()
		f.ids = threeIDs
		late := f.start(others[0]) // it is nobody's any more
		f.ids = []string{one, "n4", "n5"}
		f.kill(one)
		next := f.ready("n4", "n5")
		next.fill(t, p, 60, 70)
		for _, id := range []string{"n4", "n5"} {
			eventually(t, id+" has all", func() bool { return f.nodes[id].Log.End(p) == 70 })
			f.nodes[id].holds(t, p, 70)
		}
		if leader, _ := late.Group.Leader(); leader != "" {
			t.Errorf("%s follows %s", late.id, leader)
		}
		if err := next.change(t, protocol.MemberChange{Action: protocol.ActionJoin, Node: others[0], Address: f.address(others[0])}); codeOfChange(err) == 0 || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("a node that was left behind joins: %v", err)
		}
	})
}
