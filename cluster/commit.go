package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/state"
)

// commitLoop turns waiting commands into entries and hands them to raft.
func (g *Group) commitLoop(landing chan<- entry) {
	defer close(landing)
	for {
		taken, size, ok := g.proposer.next()
		if !ok {
			return
		}
		now := time.Now()
		data := state.AppendEntryHeader(make([]byte, 0, size), now.UnixMilli())
		for _, p := range taken {
			data = state.AppendCommand(data, p.cmd)
		}
		g.metrics.commands.Add(float64(len(taken)))
		g.metrics.queue.Set(float64(g.proposer.size()))
		landing <- entry{proposals: taken, future: g.raft.Apply(data, enqueueTimeout), start: now}
	}
}

// landLoop waits for entries in the order in which they left and answers their commands.
func (g *Group) landLoop(landing <-chan entry) {
	for e := range landing {
		err := g.await(e.future, g.stall.began())
		g.proposer.landed()
		if err != nil {
			answerAll(e.proposals, outcomeOf(err))
			continue
		}
		g.metrics.commit.Observe(time.Since(e.start).Seconds())
		switch answer := e.future.Response().(type) {
		case applied:
			for i, p := range e.proposals {
				p.done(answer.results[i], answer.index, nil)
			}
		case error:
			answerAll(e.proposals, unknown(fmt.Errorf("%w: %w", ErrFailed, answer)))
		default:
			panic(fmt.Sprintf("cluster: the state machine answered %T", answer))
		}
	}
}

// await waits for what raft says of a future. raft forgets the ones that it had not taken from its queue when it
// shut down; their entries were never written, but they count as unknown like all others. So do those that wait when
// the disk stalls.
func (g *Group) await(f raft.Future, stalled <-chan struct{}) error {
	answered := make(chan error, 1)
	go func() { answered <- f.Error() }() // stays behind only for a forgotten future, in a process that ends, and while the disk stalls
	otherwise := raft.ErrRaftShutdown
	select {
	case err := <-answered:
		return err
	case <-stalled:
		otherwise = ErrStalled
	case <-g.dead:
	}
	select {
	case err := <-answered:
		return err
	default:
		return otherwise
	}
}

func answerAll(ps []proposal, err error) {
	for _, p := range ps {
		p.done(state.Result{}, 0, err)
	}
}
