package cluster_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
)

// highestKind is the highest kind of command in a node's raft log.
func (m *member) highestKind(t *testing.T) (highest uint64) {
	t.Helper()
	s := m.Group.Store()
	first, err := s.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		for rest := l.Data[state.EntryHeaderBytes:]; len(rest) > 0; {
			n := binary.BigEndian.Uint32(rest)
			cmd := rest[state.CommandOverheadBytes:][:n]
			highest = max(highest, state.CommandKind(cmd))
			rest = rest[state.CommandOverheadBytes+n:]
		}
	}
	return highest
}

// TestU04MixedCluster: while one node of three runs a program of before, no command that it does not know reaches its log, whoever
// asks for it and through whatever node; everything else goes on. Once it is upgraded it gets them. When it goes back they
// stop again.
func TestU04MixedCluster(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		before := func(p *cluster.Peers) { p.SetCommands(state.FirstCommands) }
		f.start("n1")
		f.start("n2")
		f.start("n3", before)
		n := f.ready(f.ids...)
		for n.id == "n3" {
			if err := n.Group.Raft().LeadershipTransfer().Error(); err != nil {
				t.Fatal(err)
			}
			n = f.ready(f.ids...)
		}
		p := createTopic(t, n.Group, "orders")
		cmd := state.AppendSetSealKey(nil, &state.SetSealKey{Node: "n1", Key: state.SealKey{1}})
		refused := func() {
			t.Helper()
			_, _, err := n.Group.Do(t.Context(), cmd)
			var o *cluster.OutcomeError
			if !errors.As(err, &o) || o.Outcome != cluster.Rejected || !errors.Is(err, cluster.ErrMixed) || !strings.Contains(err.Error(), "node n3") {
				t.Errorf("the leader was asked: %v", err)
			}
			follower := f.nodes["n1"]
			if follower == n {
				follower = f.nodes["n2"]
			}
			if _, _, err = follower.Group.Ask(t.Context(), cluster.Judged{}, cmd); !errors.As(err, &o) || o.Outcome != cluster.Rejected || !strings.Contains(err.Error(), cluster.ErrMixed.Error()) {
				t.Errorf("a follower was asked: %v", err)
			}
		}
		n.fill(t, p, 0, 20)
		time.Sleep(time.Minute)
		refused()
		n.fill(t, p, 20, 40)
		f.same()
		for id, m := range f.nodes {
			if highest := m.highestKind(t); highest > state.FirstCommands {
				t.Errorf("%s has a command of kind %d in its log", id, highest)
			}
			if got := m.Group.TicketSecrets(); len(got) != 0 {
				t.Errorf("%s has %d ticket keys", id, len(got))
			}
		}

		f.stop("n3")
		f.start("n3")
		n = f.ready(f.ids...)
		f.secrets()
		f.same()
		if highest := f.nodes["n3"].highestKind(t); highest != state.CommandSetTicketKey { // a recovery is nothing that is proposed
			t.Errorf("after the upgrade the log has kinds up to %d", highest)
		}
		f.nodes["n3"].holds(t, p, 40)

		f.stop("n3")
		f.start("n3", before)
		n = f.ready(f.ids...)
		refused()
	})
}
