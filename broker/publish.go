package broker

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// onPublish takes a batch: policy, then place, then shape, then the log. It runs in the
// reader, so that a connection's publishes keep their order, and waits only for the window.
func (c *conn) onPublish(body []byte) error {
	m := &c.publish
	id, err := protocol.DecodePublish(body, m)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	judged := c.s.judged()
	cmd, f := c.publishCommand(judged, m)
	for tries := 1; f != nil && f.code == protocol.CodeStale && tries < staleTries; tries++ { // the topic was to be created
		judged = c.s.judged()
		cmd, f = c.publishCommand(judged, m)
	}
	if f != nil {
		f.outcome = protocol.OutcomeRejected
		c.answer(id, nil, f)
		return nil
	}
	return c.propose(id, judged, cmd, m)
}

// publishCommand checks a publish and encodes it for the log. The blob is copied once, here.
func (c *conn) publishCommand(j cluster.Judged, m *protocol.Publish) ([]byte, *fault) {
	name, err := topic.ParseName(m.Topic)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	decision := c.subject().Decide(policy.Publish, name)
	if !decision.Allow {
		return nil, c.denied(policy.Publish, m.Topic, decision)
	}
	if space := c.s.options.Group.Space(); space.Full() {
		return nil, &fault{code: protocol.CodeFull, text: fmt.Sprintf("the disk of %s has %d of %d MiB free, less than its guard of %d MiB (storage.guard_bytes); free space or shorten retention", c.s.options.NodeID, space.Free>>20, space.Total>>20, space.Guard>>20)}
	}
	t, f := c.findOrCreate(j, name)
	if f != nil {
		return nil, f
	}
	switch {
	case m.Incarnation != 0 && topic.Incarnation(m.Incarnation) != t.Incarnation:
		return nil, &fault{code: protocol.CodeRecreated, text: "topic " + m.Topic + " was deleted and created anew; ask for it again"}
	case uint64(m.Partition) >= uint64(len(t.Partitions)):
		return nil, &fault{code: protocol.CodeNotFound, text: "topic " + m.Topic + " has no such partition; ask for it again"}
	}
	lim := c.s.options.Limits.batch()
	info, err := batch.Scan(m.Records, lim)
	if err != nil {
		return nil, c.s.faultOf(err)
	}
	if info.Count != m.Count {
		return nil, invalid("the batch holds %d records, the frame says %d", info.Count, m.Count)
	}
	room := state.EntryHeaderBytes + state.PublishOverheadBytes + len(c.peer.Principal) + len(m.Records)
	return state.AppendPublish(make([]byte, 0, room), &state.Publish{
		Partition: t.Partitions[m.Partition], Incarnation: t.Incarnation,
		Producer: m.Producer, Epoch: m.Epoch, Sequence: m.Sequence, Info: info,
		Principal: string(c.peer.Principal), SPKI: c.peer.SPKI, PolicyVersion: decision.Version, Records: m.Records,
	}), nil
}

// findOrCreate returns the topic; one that the policy creates by itself is created.
func (c *conn) findOrCreate(j cluster.Judged, name topic.Name) (*state.Topic, *fault) {
	if t, ok := c.s.options.Group.View().Topic(name); ok {
		return t, nil
	}
	r, _, f := c.autoCreate(j, name)
	return r.Topic, f
}

// propose sends a command on its way; its answer goes out from the group's goroutine.
func (c *conn) propose(id uint64, judged cluster.Judged, cmd []byte, m *protocol.Publish) error {
	size := len(cmd)
	if most := int64(c.s.options.Limits.InFlightBytes); c.account.inFlight.Add(int64(size)) > most {
		c.account.inFlight.Add(int64(-size))
		f := limitFault("in_flight_bytes", int(most))
		f.code = protocol.CodeOverloaded // it passes by itself, other limits do not
		f.outcome = protocol.OutcomeRejected
		c.answer(id, nil, f)
		return nil
	}
	if err := c.window.enter(c.ctx, size); err != nil {
		c.account.inFlight.Add(int64(-size))
		return err
	}
	count, bytes := m.Count, len(m.Records)
	c.s.options.Group.Submit(judged, cmd, func(r state.Result, index uint64, err error) {
		c.account.inFlight.Add(int64(-size))
		c.window.leave(size)
		if err != nil {
			c.answer(id, nil, c.s.faultOf(err))
			return
		}
		if f := resultFault(&r); f != nil {
			c.answer(id, nil, f)
			return
		}
		c.s.metrics.published.Add(float64(count))
		c.s.metrics.publishedB.Add(float64(bytes))
		c.out.push(&protocol.Published{Incarnation: uint64(r.Incarnation), Offset: int64(r.Offset), TimeMs: r.TimeMs, Duplicate: r.Status == state.StatusDuplicate, Applied: index}, id)
	})
	return nil
}

// onPing answers at once.
func (c *conn) onPing(body []byte) error {
	id, m, err := protocol.Decode(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	c.out.push(&protocol.Pong{Payload: m.(*protocol.Ping).Payload}, id)
	return nil
}
