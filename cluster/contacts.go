package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// contacts is what the answers to raft's requests told of other nodes. raft keeps the like to itself.
type contacts struct {
	metrics *metrics

	questions atomic.Uint64 // how often this node wanted to know whether it still leads

	mu    sync.Mutex
	nodes map[string]contact // Guarded by mu. As many as raft ever sent to.
}

// contact is what a node has answered.
type contact struct {
	at   time.Time // of the last answer
	last uint64    // index of the last entry in its log, before the last request: a heartbeat brings it up to date

	// The last question before a request of which the answer said that the node follows this one, and the term. Questions and
	// terms only grow, but answers may come out of order.
	term, asked uint64
}

// follows says whether the node has followed this one, in a term, after a question.
func (c contact) follows(term, asked uint64) bool { return c.term == term && c.asked >= asked }

func newContacts(m *metrics) *contacts { return &contacts{metrics: m, nodes: map[string]contact{}} }

// ask notes a question: only answers to what is sent from now on say something about it.
func (c *contacts) ask() uint64 {
	if c == nil {
		return 0
	}
	return c.questions.Add(1)
}

// asking is the last question, for a request that is about to be sent.
func (c *contacts) asking() uint64 {
	if c == nil {
		return 0
	}
	return c.questions.Load()
}

// sent notes a request to append that was sent behind a question and took so long, and its answer.
func (c *contacts) sent(node string, request *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse, asked uint64, took time.Duration, err error) {
	if err != nil {
		c.metrics.unanswered.Inc()
		return
	}
	c.metrics.roundTrip.Observe(took.Seconds())
	for _, l := range request.Entries {
		c.metrics.sentBytes.Add(float64(len(l.Data)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.nodes[node]
	next := contact{at: time.Now(), last: answer.LastLog, term: old.term, asked: old.asked}
	if answer.Success && answer.Term == request.Term && (request.Term > old.term || request.Term == old.term && asked > old.asked) {
		next.term, next.asked = request.Term, asked
	}
	c.nodes[node] = next
}

func (c *contacts) of(node string) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[node]
}
