package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// author publishes numbered records through one node, as a client does: some in flight, and what was rejected or is
// unknown is sent again, from the first on, with the same sequence, once everything in flight is answered.
type author struct {
	t        *testing.T
	submit   func(j cluster.Judged, cmd []byte, done cluster.Done)
	producer byte
	part     topic.PartitionID
	outcomes map[string]int
}

func (a *author) body(n int) []byte { return fmt.Appendf(nil, "%d %d", a.producer, n) }

// write publishes records until all of them are acknowledged.
func (a *author) write(count int, random *rand.Rand) {
	for acked := 0; acked < count; {
		burst := min(1+random.IntN(8), count-acked)
		var r replies
		for i := range burst {
			a.submit(cluster.Judged{}, publish(a.part, a.producer, uint64(acked+i), a.body(acked+i)), r.done(i))
		}
		for len(r.all()) < burst {
			time.Sleep(5 * time.Millisecond)
		}
		good := true
		for i, x := range r.all() {
			if x.n != i {
				a.t.Errorf("producer %d: answer %d is to command %d of a burst", a.producer, i, x.n)
			}
			if x.err == nil && !x.result.Status.Done() && x.result.Status != state.StatusSequence {
				a.t.Errorf("producer %d: %+v", a.producer, x.result)
			}
			what := became(x.err)
			if x.err == nil {
				what = x.result.Status.String()
			}
			a.outcomes[what]++
			if good = good && x.err == nil && x.result.Status.Done(); good {
				acked++
			}
		}
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
	}
}

// keepTold tells every node who leads, as its own raft sees it, until stop is closed.
func (p *postal) keepTold(stop <-chan struct{}) (wait func()) {
	var work sync.WaitGroup
	for _, id := range p.ids {
		r := p.nodes[id].Group.Raft()
		work.Go(func() {
			var led raft.ServerID
			for {
				_, leader := r.LeaderWithID()
				switch {
				case leader == "":
					p.posts[id].SetLeader(cluster.Leader{})
				case leader != id:
					p.posts[id].follow(leader)
				case led != id && r.Barrier(time.Second).Error() == nil:
					p.posts[id].follow(id)
				case led != id:
					leader = ""
				}
				led = leader
				select {
				case <-time.After(20 * time.Millisecond):
				case <-stop:
					return
				}
			}
		})
	}
	return work.Wait
}

// TestR01Forwarding: clients on all nodes publish while leadership moves, links break and leaders are cut off. Every
// acknowledged record is in the log once, in the order of its producer, and answers came in the order of the commands.
func TestR01Forwarding(t *testing.T) {
	for seed := range lane.Pick(2, 8, 200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inPostal(t, three, func(t *testing.T, p *postal) { forwardUnderFaults(t, p, uint64(seed)) })
		})
	}
}

func forwardUnderFaults(t *testing.T, p *postal, seed uint64) {
	const count = 150
	part := createTopic(t, p.leader().Group, "orders")
	stop := make(chan struct{})
	told := p.keepTold(stop)
	var authors []*author
	var work sync.WaitGroup
	for i, id := range p.ids {
		p.posts[id].set(func(n *post) { // time in which a link can be cut
			n.propose = func(cmd []byte, done cluster.Done, pass func([]byte, cluster.Done)) {
				time.Sleep(3 * time.Millisecond)
				pass(cmd, done)
			}
		})
		a := &author{t, p.posts[id].Submit, byte(i + 1), part, map[string]int{}}
		authors = append(authors, a)
		work.Go(func() { a.write(count, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	written := make(chan struct{})
	go func() {
		work.Wait()
		close(written)
	}()
	p.disturb(rand.New(rand.NewPCG(seed, 100)), written)
	close(stop)
	told()
	for _, a := range authors {
		t.Logf("seed %d, producer %d: %v", seed, a.producer, a.outcomes)
	}
	p.settle(p.nodes["n1"], p.nodes["n2"], p.nodes["n3"])
	for _, id := range p.ids {
		p.nodes[id].holdsOf(t, part, authors, count)
	}
}

// disturb breaks something every now and then, until done is closed, and mends everything then.
func (p *postal) disturb(random *rand.Rand, done <-chan struct{}) {
	cut := raft.ServerID("")
	mend := func() {
		if cut != "" {
			p.posts[cut].links.Resume()
			p.heal()
			cut = ""
		}
	}
	for {
		select {
		case <-done:
			mend()
			return
		case <-time.After(time.Duration(20+random.IntN(400)) * time.Millisecond):
		}
		victim := p.ids[random.IntN(len(p.ids))]
		switch what := random.IntN(4); {
		case what == 0 || cut != "":
			mend()
		case what == 1:
			p.posts[victim].cut()
		case what == 2:
			p.nodes[victim].Group.Raft().LeadershipTransfer() // fails on two of three
		default:
			cut = victim
			p.cutOff(victim)
			p.posts[victim].links.Suspend(errors.New("the test cuts it off"))
		}
	}
}

// holdsOf reads a partition and compares it with what its authors wrote.
func (m *member) holdsOf(t *testing.T, p topic.PartitionID, authors []*author, count int) {
	t.Helper()
	end, next := m.Log.End(p), map[byte]int{}
	if end != topic.Offset(count*len(authors)) {
		t.Errorf("%s holds %d records, want %d", m.id, end, count*len(authors))
	}
	for at := topic.Offset(0); at < end; {
		data, after, _, err := m.Log.Read(p, at, 1<<20, nil)
		if err != nil || after == at {
			t.Fatalf("%s: read at %d: %d, %v", m.id, at, after, err)
		}
		var b batch.Batch
		for len(data) > 0 {
			if data, err = batch.Parse(data, &b); err != nil {
				t.Fatal(err)
			}
			var r batch.Record
			for c := batch.Records(b.Records); c.Next(&r); {
				a := authors[b.Producer[0]-1]
				if want := a.body(next[a.producer]); string(r.Body) != string(want) {
					t.Fatalf("%s: record %q of producer %d, want %q", m.id, r.Body, a.producer, want)
				}
				next[a.producer]++
			}
		}
		at = after
	}
}
