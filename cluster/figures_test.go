package cluster_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauge reads a gauge of a node; peer is its label, "" = it has none.
func gauge(t *testing.T, r *prometheus.Registry, name, peer string) (value float64, found bool) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if labels := m.GetLabel(); len(labels) == 0 && peer == "" || len(labels) == 1 && labels[0].GetValue() == peer {
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// TestRaftFigures: one node says that it leads and how the others are; a node that is down falls behind in its figures, and a
// follower says since when it has heard nothing.
func TestRaftFigures(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		n, p := f.begun()
		want := func(node, name, peer string, low, high float64) {
			t.Helper()
			if got, found := gauge(t, f.registries[node], name, peer); !found || got < low || got > high {
				t.Errorf("%s of %s, peer %q: %v, found %t, want %v to %v", name, node, peer, got, found, low, high)
			}
		}
		var down string
		for _, id := range f.ids {
			want(id, "waxwing_raft_apply_lag_entries", "", 0, 0)
			want(id, "waxwing_raft_term", "", 1, 10)
			want(id, "waxwing_raft_leader_contact_seconds", "", 0, 1)
			if id == string(n.id) {
				want(id, "waxwing_raft_leader", "", 1, 1)
				continue
			}
			down = id
			want(id, "waxwing_raft_leader", "", 0, 0)
			want(string(n.id), "waxwing_raft_peer_contact_seconds", id, 0, 1)
			want(string(n.id), "waxwing_raft_peer_lag_entries", id, 0, 0)
			if _, found := gauge(t, f.registries[id], "waxwing_raft_peer_contact_seconds", string(n.id)); found {
				t.Errorf("%s does not lead, and says how the leader is", id)
			}
		}
		f.stop(down)
		for i := range 30 { // one after the other, each an entry of its own
			n.fill(t, p, 20+i, 21+i)
		}
		time.Sleep(20 * time.Second)
		want(string(n.id), "waxwing_raft_peer_contact_seconds", down, 20, 30)
		want(string(n.id), "waxwing_raft_peer_lag_entries", down, 30, 60)
		for id := range f.nodes {
			if id != string(n.id) {
				want(string(n.id), "waxwing_raft_peer_contact_seconds", id, 0, 1)
				f.stop(string(n.id))
				time.Sleep(20 * time.Second)
				want(id, "waxwing_raft_leader_contact_seconds", "", 15, 30)
				want(id, "waxwing_raft_leader", "", 0, 0)
				break
			}
		}
	})
}
