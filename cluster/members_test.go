package cluster_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// joiner are the options of a node that joins a cluster: it knows one member.
func (f *fleet) joiner(id, knows string) func(*cluster.Peers) {
	return func(p *cluster.Peers) {
		p.Expect = 0
		p.Join = []cluster.Node{{ID: knows, Address: f.address(knows)}, {ID: id, Address: f.address(id)}}
	}
}

// change has a node change members.
func (m *member) change(t *testing.T, c protocol.MemberChange) error {
	t.Helper()
	_, err := m.Group.Change(t.Context(), cluster.Judged{}, &c)
	return err
}

func (f *fleet) join(through *member, id string) {
	f.t.Helper()
	if err := through.change(f.t, protocol.MemberChange{Action: protocol.ActionJoin, Node: id, Address: f.address(id)}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) remove(through *member, id string) {
	f.t.Helper()
	if err := through.change(f.t, protocol.MemberChange{Action: protocol.ActionRemove, Node: id}); err != nil {
		f.t.Fatal(err)
	}
}

// adopt makes a node one that the fleet's helpers know.
func (f *fleet) adopt(id string) { f.ids = append(f.ids, id) }

func codeOfChange(err error) protocol.Code {
	refused, ok := errors.AsType[*cluster.ChangeError](err)
	if !ok {
		return 0
	}
	return refused.Code
}

// voter says whether raft counts a node's vote, as another node sees it.
func (m *member) voter(id string) bool {
	for _, s := range m.Group.Raft().GetConfiguration().Configuration().Servers {
		if string(s.ID) == id {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}

// eventually waits up to a minute.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("within a minute not: %s", what)
}

// follower is a node that does not lead.
func (f *fleet) follower(leader *member) *member {
	for _, id := range f.running() {
		if f.nodes[id] != leader {
			return f.nodes[id]
		}
	}
	f.t.Fatal("nobody follows")
	return nil
}

// TestMembersJoin: a node that nobody has let in gets nothing. Once one member was asked to let it in, by way of any, it gets the
// log, then a vote, and goes on when the leader dies. Asking twice is as good as once.
func TestMembersJoin(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		f.adopt("n4")
		n4 := f.start("n4", f.joiner("n4", string(f.follower(leader).id)))
		time.Sleep(30 * time.Second)
		if s := n4.Group.Status(); s.Ready || s.Leader != "" || s.Last != 0 {
			t.Fatalf("nobody has let n4 in: %+v", s)
		}
		for range 2 {
			f.join(f.follower(leader), "n4")
		}
		f.ready(f.ids...)
		eventually(t, "n4 votes", func() bool { return leader.voter("n4") })
		leader.fill(t, p, 20, 40)
		f.same()
		checkMembers(t, f)
		f.kill(string(leader.id))
		f.ready(f.running()...).fill(t, p, 40, 60)
		f.same()
		n4.holds(t, p, 60)
	})
}

// TestMembersJoinLate: a node may be let in before it is there. As long as it is away it has no vote, so that no majority needs
// it.
func TestMembersJoinLate(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		f.join(leader, "n4")
		time.Sleep(time.Minute)
		if leader.voter("n4") {
			t.Fatal("n4 is not there, and votes")
		}
		f.stop(string(f.follower(leader).id))
		leader.fill(t, p, 20, 40)
		f.adopt("n4")
		n4 := f.start("n4", f.joiner("n4", string(leader.id)))
		eventually(t, "n4 votes", func() bool { return leader.voter("n4") })
		f.same()
		n4.holds(t, p, 40)
	})
}

// TestMembersJoinByInstall: what the log does not hold any more comes as segments.
func TestMembersJoinByInstall(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		for number := range uint64(2) {
			leader.pad(t, cluster.LogWindow+100)
			for _, m := range f.nodes {
				if err := m.Group.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			f.settle()
			for _, m := range f.nodes {
				if err := m.Log.WaitSealed(t.Context(), number+1); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s := leader.Group.Status(); s.First == 1 {
			t.Fatalf("the log still holds everything: %+v", s)
		}
		f.adopt("n4")
		n4 := f.start("n4", f.joiner("n4", string(leader.id)))
		f.join(leader, "n4")
		eventually(t, "n4 votes", func() bool { return leader.voter("n4") })
		if h, ok := n4.Log.Head(); !ok || !h.Installed {
			t.Errorf("n4 has no segments of others: %+v", h)
		}
		leader.fill(t, p, 20, 40)
		f.same()
		n4.holds(t, p, 40)
	})
}

// TestMembersRefused: what cannot be is refused, and changes nothing.
func TestMembersRefused(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, _ := f.begun()
		f.join(leader, "n4")
		eventually(t, "n4 is known", func() bool { return len(leader.Group.Raft().GetConfiguration().Configuration().Servers) == 4 })
		f.remove(leader, "n4")
		before := leader.Group.View().Members()
		for name, c := range map[string]struct {
			protocol.MemberChange
			want protocol.Code
		}{
			"no port":            {protocol.MemberChange{Action: protocol.ActionJoin, Node: "n5", Address: "n5"}, protocol.CodeInvalid},
			"port 0":             {protocol.MemberChange{Action: protocol.ActionJoin, Node: "n5", Address: "n5:0"}, protocol.CodeInvalid},
			"no host":            {protocol.MemberChange{Action: protocol.ActionJoin, Node: "n5", Address: ":7421"}, protocol.CodeInvalid},
			"a member's address": {protocol.MemberChange{Action: protocol.ActionJoin, Node: "n5", Address: f.address("n1")}, protocol.CodeConflict},
			"removed":            {protocol.MemberChange{Action: protocol.ActionJoin, Node: "n4", Address: "n4:1"}, protocol.CodeConflict},
			"remove a stranger":  {protocol.MemberChange{Action: protocol.ActionRemove, Node: "n9"}, protocol.CodeNotFound},
			"a stranger leads":   {protocol.MemberChange{Action: protocol.ActionTransfer, Node: "n9"}, protocol.CodeNotFound},
			"a removed leads":    {protocol.MemberChange{Action: protocol.ActionTransfer, Node: "n4"}, protocol.CodeNotFound},
			"no action":          {protocol.MemberChange{Action: 9, Node: "n1"}, protocol.CodeUnsupported},
		} {
			for _, m := range []*member{leader, f.follower(leader)} {
				if err := m.change(t, c.MemberChange); codeOfChange(err) != c.want {
					t.Errorf("%s, by way of %s: %v, want %v", name, m.id, err, c.want)
				}
			}
		}
		after := leader.Group.View().Members()
		if len(after) != len(before) {
			t.Errorf("members were %+v, are %+v", before, after)
		}
		f.remove(leader, "n4") // again is as good as once
	})
}

// TestMembersStale: a request that was judged by an older policy than the leader's is not done.
func TestMembersStale(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, _ := f.begun()
		if r, _, err := leader.Group.Do(t.Context(), state.AppendSetPolicy(nil, &state.SetPolicy{Document: []byte("x"), By: "test"})); err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, m := range []*member{leader, f.follower(leader)} {
			if err := m.change(t, protocol.MemberChange{Action: protocol.ActionRemove, Node: "n3"}); became(err) != "rejected: stale" {
				t.Errorf("%s: %s", m.id, became(err))
			}
		}
	})
}

// TestMembersTransfer: the node that is named leads; without a name another one does.
func TestMembersTransfer(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		at := 20
		for i, to := range []string{"n1", "n2", "n3", "n3", "", ""} {
			if err := f.nodes[f.ids[i%3]].change(t, protocol.MemberChange{Action: protocol.ActionTransfer, Node: to}); err != nil {
				t.Fatalf("to %q: %v", to, err)
			}
			next := f.ready(f.ids...)
			if to != "" && string(next.id) != to || to == "" && next == leader {
				t.Errorf("to %q: %s leads", to, next.id)
			}
			leader = next
			leader.fill(t, p, at, at+5)
			at += 5
		}
		f.same()
	})
}

// TestMembersMoved: a member that runs at another address, with its disk, is found there once that was told.
func TestMembersMoved(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		moved := string(f.follower(leader).id)
		f.stop(moved)
		f.at = map[string]string{moved: "elsewhere:7421"}
		f.start(moved)
		f.join(leader, moved)
		f.ready(f.ids...)
		leader.fill(t, p, 20, 40)
		f.same()
		checkMembers(t, f)
		f.kill(string(leader.id))
		f.ready(f.running()...).fill(t, p, 40, 60)
		f.same()
	})
}

// gone waits until a node knows that it was removed.
func (m *member) gone(t *testing.T) {
	t.Helper()
	select {
	case <-m.Group.Removed():
	case <-time.After(time.Minute):
		t.Fatalf("%s does not know that it was removed: %+v", m.id, m.Group.Status())
	}
}

// TestR07Removed: a node that is removed, follower or leader, knows and ends; on its folder nothing starts. The others go on,
// in the term that they were in, or the next if the leader went.
func TestR07Removed(t *testing.T) {
	for _, who := range []string{"follower", "leader"} {
		t.Run(who, func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				leader, p := f.begun()
				gone := leader
				if who == "follower" {
					gone = f.follower(leader)
				}
				term := leader.Group.Raft().CurrentTerm()
				f.remove(f.follower(gone), string(gone.id))
				gone.gone(t)
				f.stop(string(gone.id))
				if _, err := f.open(string(gone.id)); !errors.Is(err, cluster.ErrRemoved) {
					t.Errorf("started again: %v", err)
				}
				leader = f.ready(f.running()...)
				leader.fill(t, p, 20, 40)
				if now := leader.Group.Raft().CurrentTerm(); who == "follower" && now != term {
					t.Errorf("the term was %d, is %d", term, now)
				}
				f.same()
				for _, m := range f.nodes {
					if m.voter(string(gone.id)) {
						t.Errorf("%s counts the vote of a removed node", m.id)
					}
				}
			})
		})
	}
}

// TestR07RemovedWhileDown: a node that was away when it was removed, and comes back with its old disk, is refused in TLS,
// and disturbs nobody, not even when it asks for votes.
func TestR07RemovedWhileDown(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		gone := string(f.follower(leader).id)
		f.stop(gone)
		f.remove(leader, gone)
		leader.fill(t, p, 20, 40)
		term := leader.Group.Raft().CurrentTerm()
		again := f.start(gone)
		time.Sleep(30 * time.Second)
		if s := again.Group.Status(); s.Ready || s.Leader != "" || again.Group.Raft().AppliedIndex() >= leader.Group.Raft().LastIndex() {
			t.Errorf("the removed node: %+v", s)
		}
		if now := leader.Group.Raft().CurrentTerm(); now != term || !leader.leads() {
			t.Errorf("the term was %d, is %d", term, now)
		}
		key := peer.Key{Group: cluster.GroupName, Purpose: protocol.PeerRaft}
		_, err := again.Group.Links().Dial(t.Context(), string(leader.id), f.address(string(leader.id)), key)
		if err == nil || refusedWith(err) != 0 || !strings.Contains(err.Error(), "remote error: tls") {
			t.Errorf("the removed node dials, and is not refused in TLS: %v", err)
		}
		_, err = leader.Group.Links().Dial(t.Context(), gone, f.address(gone), key)
		if refused, ok := errors.AsType[*identity.RefusedError](err); !ok || refused.Reason != identity.ReasonRemoved {
			t.Errorf("the leader dials the removed node: %v", err)
		}
	})
}

// TestR07RemovedUnheard: a node that knows its tombstone and never gets the configuration without it learns from the others that it is
// needed no more: they refuse it.
func TestR07RemovedUnheard(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		gone := f.follower(leader)
		hold := leader.Group.HoldChanges()
		if r, _, err := leader.Group.Do(t.Context(), state.AppendRemoveMember(nil, &state.RemoveMember{Node: string(gone.id)})); err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(5 * time.Second)
		gone.Group.Links().Suspend(errors.New("the test cut it off"))
		hold()
		time.Sleep(10 * time.Second)
		if m, _ := gone.Group.View().Member(string(gone.id)); !m.Removed || !gone.voter(string(gone.id)) || leader.voter(string(gone.id)) {
			t.Fatal("it is to know the tombstone, and not the configuration")
		}
		gone.Group.Links().Resume()
		gone.gone(t)
		f.stop(string(gone.id))
		f.ready(f.running()...).fill(t, p, 20, 40)
	})
}

// TestMembersRemoveStops: what would stop the cluster is refused. Forced, it stops, and goes on, with nothing lost, when the one
// that was away is back.
func TestMembersRemoveStops(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		away := string(f.follower(leader).id)
		f.stop(away)
		here := f.follower(leader)
		for _, id := range []string{string(here.id), string(leader.id)} {
			if err := leader.change(t, protocol.MemberChange{Action: protocol.ActionRemove, Node: id}); codeOfChange(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "would stop") {
				t.Fatalf("remove %s while %s is away: %v", id, away, err)
			}
		}
		leader.fill(t, p, 20, 40)
		if err := leader.change(t, protocol.MemberChange{Action: protocol.ActionRemove, Node: string(here.id), Force: true}); err != nil {
			t.Fatal(err)
		}
		here.gone(t)
		f.stop(string(here.id))
		time.Sleep(30 * time.Second)
		if leader.Group.Raft().State() == raft.Leader {
			t.Error("one of two leads alone")
		}
		f.start(away)
		leader = f.ready(f.running()...)
		leader.fill(t, p, 40, 60)
		f.same()
		f.remove(leader, away) // now it is there, and one is a majority of one
		f.stop(away)
		f.ready(f.running()...).fill(t, p, 60, 80)
	})
}

// TestMembersRemoveHalf: the leader dies after the tombstone was written and before raft's configuration has changed. The next
// one goes on where it ended.
func TestMembersRemoveHalf(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		f.ids = []string{"n1", "n2", "n3", "n4", "n5"}
		leader, p := f.begun()
		gone := f.follower(leader)
		hold := leader.Group.HoldChanges()
		if r, _, err := leader.Group.Do(t.Context(), state.AppendRemoveMember(nil, &state.RemoveMember{Node: string(gone.id)})); err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(5 * time.Second)
		if !leader.voter(string(gone.id)) || !gone.Group.Status().Ready || gone.Group.Status().Leader == "" {
			t.Fatal("it is to be shown that a tombstone alone changes nothing")
		}
		f.nodes[string(leader.id)].Group.Links().Suspend(errors.New("the test killed it"))
		hold()
		f.stop(string(leader.id))
		gone.gone(t)
		f.stop(string(gone.id))
		f.ready(f.running()...).fill(t, p, 20, 40)
		f.same()
	})
}

// TestMembersLostDisk: a node that lost its disk is removed, and comes back under a new id.
func TestMembersLostDisk(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		lost := string(f.follower(leader).id)
		f.stop(lost)
		if err := os.RemoveAll(f.dir(lost)); err != nil {
			t.Fatal(err)
		}
		leader.fill(t, p, 20, 40)
		f.remove(leader, lost)
		f.adopt("n4")
		f.at = map[string]string{"n4": f.address(lost)} // the same machine
		n4 := f.start("n4", f.joiner("n4", string(leader.id)))
		f.join(leader, "n4")
		eventually(t, "n4 votes", func() bool { return leader.voter("n4") })
		leader.fill(t, p, 40, 60)
		f.same()
		n4.holds(t, p, 60)
	})
}

// TestMembersReplaced: a node that was away while all the others were replaced finds its way back by a join list that names one
// of the new ones.
func TestMembersReplaced(t *testing.T) {
	lane.Need(t, 2, "R-04")
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		away := f.follower(leader)
		f.stop(string(away.id))
		old := f.running()
		for _, id := range []string{"n4", "n5"} {
			f.adopt(id)
			f.start(id, f.joiner(id, string(leader.id)))
			f.join(leader, id)
			eventually(t, id+" votes", func() bool { return leader.voter(id) })
		}
		for _, id := range old {
			f.remove(f.nodes["n5"], id)
			f.nodes[id].gone(t)
			f.stop(id)
		}
		leader = f.ready("n4", "n5")
		leader.fill(t, p, 20, 40)
		again := f.start(string(away.id), f.joiner(string(away.id), "n4"))
		f.ready(f.running()...)
		f.same()
		again.holds(t, p, 40)
		f.kill(string(f.ready("n4", "n5").id))
		f.ready(f.running()...).fill(t, p, 40, 60) // it votes
	})
}

// TestMembersStatus: any node tells of all of them; one that does not answer is not waited for, and a minority shows what it
// knows.
func TestMembersStatus(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		leader, p := f.begun()
		f.join(leader, "n4")
		f.join(leader, "n5")
		eventually(t, "two more are known", func() bool { return len(leader.Group.Raft().GetConfiguration().Configuration().Servers) == 5 })
		f.remove(leader, "n5")
		leader.fill(t, p, 20, 30)
		f.settle()
		for _, id := range f.ids {
			c := f.nodes[id].Group.Members(t.Context())
			if c.Node != id || c.Leader != string(leader.id) || c.Cluster == "" || len(c.Members) != 5 {
				t.Fatalf("%s: %+v", id, c)
			}
			for _, m := range c.Members[:3] {
				role := protocol.MemberFollower
				if m.Node == c.Leader {
					role = protocol.MemberLeader
				}
				n := &m.Figures
				if m.Role != role || !m.Voter || m.Fault != "" || n.Leader != c.Leader || n.Term == 0 || n.Applied == 0 || n.Last < n.Applied || n.Lag > 1 || n.ContactMs < 0 || n.ContactMs > 1000 ||
					n.Software != "test" || n.PID != 7 || n.CertUntilMs == 0 || n.DiskFree == 0 || n.DiskTotal < n.DiskFree || m.Peer != f.address(m.Node) || m.Client == "" || m.Disk == "" {
					t.Errorf("%s on %s: %+v", id, m.Node, m)
				}
			}
			if m := c.Members[3]; m.Node != "n4" || m.Role != protocol.MemberLearner || m.Voter || m.Fault == "" {
				t.Errorf("%s on a node that is not there: %+v", id, m)
			}
			if m := c.Members[4]; m.Node != "n5" || m.Role != protocol.MemberRemoved || m.Voter || m.ChangedMs == 0 {
				t.Errorf("%s on a removed node: %+v", id, m)
			}
		}
		left := f.follower(leader)
		for _, id := range f.running() {
			if f.nodes[id] != left {
				f.kill(id)
			}
		}
		time.Sleep(15 * time.Second)
		start := time.Now()
		c := left.Group.Members(t.Context())
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if c.Leader != "" || len(c.Members) != 5 {
			t.Errorf("alone: %+v", c)
		}
		for _, m := range c.Members[:3] {
			if (m.Fault == "") != (m.Node == string(left.id)) {
				t.Errorf("alone, of %s: %+v", m.Node, m)
			}
		}
	})
}

// TestMembersAlone: a node that is alone shows itself, and nothing can join it.
func TestMembersAlone(t *testing.T) {
	dir := t.TempDir()
	log, err := storage.Open(storage.Options{Dir: dir + "/storage"})
	if err != nil {
		t.Fatal(err)
	}
	g, err := cluster.Open(t.Context(), cluster.Options{Dir: dir, NodeID: "n1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{Group: g, Log: log}
	m.stop = m.run()
	if err := g.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := g.Members(t.Context())
	if len(c.Members) != 1 || c.Leader != "n1" || c.Members[0].Role != protocol.MemberLeader || !c.Members[0].Voter || c.Members[0].Figures.Applied == 0 {
		t.Errorf("%+v", c)
	}
	for _, a := range []protocol.MemberAction{protocol.ActionJoin, protocol.ActionRemove, protocol.ActionTransfer} {
		if err := m.change(t, protocol.MemberChange{Action: a, Node: "n1", Address: "h:1"}); codeOfChange(err) != protocol.CodeInvalid {
			t.Errorf("action %d: %v", a, err)
		}
	}
	if err := m.stop(); err != nil {
		t.Error(err)
	}
}
