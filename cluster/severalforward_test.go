package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// ask submits a command through a node.
func (m *member) ask(t *testing.T, j cluster.Judged, cmd []byte) (state.Result, uint64, error) {
	t.Helper()
	return m.Group.Ask(contextFor(t, time.Minute), j, cmd)
}

// TestSeveralAnyNode: every node takes requests; what was answered can be read on the same node once the index is applied.
func TestSeveralAnyNode(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		f.ready(f.ids...)
		for i, id := range f.ids {
			m := f.nodes[id]
			name := topic.Name("orders." + id)
			r, index, err := m.ask(t, cluster.Judged{Policy: uint64(i)}, state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: state.Spec{Partitions: 1}, By: "test"}))
			if err != nil || !r.Created {
				t.Fatalf("%s: %+v, %v", id, r, err)
			}
			if err := m.Group.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			got, _ := m.Group.View().Topic(name)
			if d := cmp.Diff(r.Topic, got); d != "" {
				t.Errorf("%s: %s", id, d)
			}
			r, _, err = m.ask(t, cluster.Judged{Policy: uint64(i)}, state.AppendSetPolicy(nil, &state.SetPolicy{Expect: uint64(i), Document: fmt.Append(nil, i), By: "test"}))
			if err != nil || r.Version != uint64(i+1) {
				t.Fatalf("%s: policy: %+v, %v", id, r, err)
			}
		}
		f.settle()
		f.ready(f.ids...)
		for _, m := range f.nodes {
			r, index, err := m.ask(t, cluster.Judged{Policy: 2}, publish(1, 1, 0, smallBody(0)))
			if became(err) != "rejected: stale" || index == 0 {
				t.Errorf("%s: judged by an old policy: %+v, %s", m.id, r, became(err))
			}
		}
		f.same()
	})
}

// TestSeveralForward: clients on all nodes publish while the leader is stopped, killed and started again. What was acknowledged is on
// every node, once, in order; a stop is seen by nobody on the others.
func TestSeveralForward(t *testing.T) {
	for name, end := range map[string]func(f *fleet, id string){"stopped": (*fleet).stop, "killed": (*fleet).kill} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				const count = 60
				f.startAll()
				leader := f.ready(f.ids...)
				part := createTopic(t, leader.Group, "orders")
				f.settle()
				var authors []*author
				var work sync.WaitGroup
				for i, id := range f.ids {
					a := &author{t, f.nodes[id].Group.Submit, byte(i + 1), part, map[string]int{}}
					authors = append(authors, a)
					if f.nodes[id] != leader {
						work.Go(func() { a.write(count, rand.New(rand.NewPCG(1, uint64(i)))) })
					} else {
						a.write(count, rand.New(rand.NewPCG(1, uint64(i))))
					}
				}
				time.Sleep(500 * time.Millisecond)
				end(f, string(leader.id))
				work.Wait()
				for _, a := range authors {
					t.Logf("producer %d: %v", a.producer, a.outcomes)
					if lost := a.outcomes["rejected: shutdown"] + a.outcomes["rejected: not leader"] + a.outcomes["rejected: no leader"]; lost > 0 {
						t.Errorf("producer %d: %v", a.producer, a.outcomes)
					}
				}
				f.start(string(leader.id))
				f.same()
				for _, m := range f.nodes {
					m.holdsOf(t, part, authors, count)
				}
			})
		})
	}
}

// TestSeveralNoMajority: without one a request is rejected after 10 s, on the leader of before as on any other node.
func TestSeveralNoMajority(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		leader := f.ready(f.ids...)
		part := createTopic(t, leader.Group, "orders")
		f.settle()
		var left *member
		for id, m := range f.nodes {
			if m != leader && left == nil {
				left = m
				continue
			}
			defer f.start(id)
			f.kill(id)
		}
		time.Sleep(5 * time.Second)
		if id, _ := left.Group.Leader(); id != "" {
			t.Fatalf("%s leads", id)
		}
		start := time.Now()
		_, _, err := left.ask(t, cluster.Judged{}, publish(part, 1, 0, smallBody(0)))
		if took := time.Since(start); became(err) != "rejected: no leader" || took > 11*time.Second {
			t.Errorf("%s after %v", became(err), took)
		}
		synctest.Wait()
	})
}
