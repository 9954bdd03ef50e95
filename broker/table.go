package broker

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// right is the verb that a request needs. Verbs with a resource are decided by the handler's
// call of allowed, once it knows the name; the others here, before the handler runs.
type right struct {
	verb  policy.Verb
	needs bool // false: every identified client may
	named bool // the verb is on a name in the request
}

var (
	anybody     = right{}
	publishing  = right{policy.Publish, true, true}
	subscribing = right{policy.Subscribe, true, true}
	consuming   = right{policy.Consume, true, true}
	managing    = right{policy.Manage, true, true}
	observing   = right{policy.Observe, true, false}
	admin       = right{policy.Admin, true, false}
)

// request is one row of the table.
type request struct {
	right right
	// handle answers a request. It runs beside the reader, at most requestsMax at once. j is at most what the request is judged by.
	handle handler
	// inline runs in the reader, for what is hot or must keep its order. It gets the frame's body.
	inline func(c *conn, body []byte) error
}

type handler func(c *conn, id uint64, j cluster.Judged, m protocol.Message) (protocol.Message, *fault)

// requests is the one table of what clients may send: kind -> right -> handler.
var requests = map[protocol.Kind]request{
	protocol.KindPublish:       {right: publishing, inline: (*conn).onPublish},
	protocol.KindCredit:        {right: anybody, inline: (*conn).onCredit},
	protocol.KindPing:          {right: anybody, inline: (*conn).onPing},
	protocol.KindPong:          {right: anybody, inline: func(*conn, []byte) error { return nil }},
	protocol.KindSubscribe:     {right: subscribing, handle: onWithID((*conn).onSubscribe)},
	protocol.KindUnsubscribe:   {right: anybody, handle: on((*conn).onUnsubscribe)},
	protocol.KindTopicCreate:   {right: managing, handle: onJudged((*conn).onTopicCreate)},
	protocol.KindTopicGet:      {right: right{policy.Manage, false, true}, handle: on((*conn).onTopicGet)},
	protocol.KindTopicList:     {right: right{policy.Manage, false, true}, handle: on((*conn).onTopicList)},
	protocol.KindTopicAlter:    {right: managing, handle: onJudged((*conn).onTopicAlter)},
	protocol.KindTopicDelete:   {right: managing, handle: onJudged((*conn).onTopicDelete)},
	protocol.KindPolicyGet:     {right: admin, handle: on((*conn).onPolicyGet)},
	protocol.KindPolicyApply:   {right: admin, handle: onJudged((*conn).onPolicyApply)},
	protocol.KindPolicyExplain: {right: anybody, handle: on((*conn).onPolicyExplain)},
	protocol.KindRevoke:        {right: admin, handle: onJudged((*conn).onRevoke)},
	protocol.KindRevokeList:    {right: admin, handle: on((*conn).onRevokeList)},
	protocol.KindWhoAmI:        {right: anybody, handle: on((*conn).onWhoAmI)},
	protocol.KindSnapshotOpen:  {right: admin, handle: on((*conn).onSnapshotOpen)},
	protocol.KindSnapshotRead:  {right: admin, handle: onWithID((*conn).onSnapshotRead)},
	protocol.KindSnapshotClose: {right: admin, handle: on((*conn).onSnapshotClose)},

	protocol.KindGroupCreate: {right: managing, handle: onJudged((*conn).onGroupCreate)},
	protocol.KindGroupGet:    {right: consuming, handle: on((*conn).onGroupGet)},
	protocol.KindGroupList:   {right: right{policy.Consume, false, true}, handle: on((*conn).onGroupList)},
	protocol.KindGroupPause:  {right: managing, handle: onJudged((*conn).onGroupPause)},
	protocol.KindGroupDelete: {right: managing, handle: onJudged((*conn).onGroupDelete)},
	protocol.KindConsume:     {right: consuming, handle: onWithID((*conn).onConsume)},
	protocol.KindSettle:      {right: anybody, inline: (*conn).onSettle},

	protocol.KindClusterStatus:  {right: observing, handle: on((*conn).onClusterStatus)},
	protocol.KindMemberJoin:     {right: admin, handle: on((*conn).onMemberJoin)},
	protocol.KindMemberRemove:   {right: admin, handle: on((*conn).onMemberRemove)},
	protocol.KindLeaderTransfer: {right: admin, handle: on((*conn).onLeaderTransfer)},

	protocol.KindStorageStatus:  {right: observing, handle: on((*conn).onStorageStatus)},
	protocol.KindStorageExtents: {right: observing, handle: on((*conn).onStorageExtents)},
	protocol.KindStorageVerify:  {right: admin, handle: on((*conn).onStorageVerify)}, // it costs the disk's time
	protocol.KindStorageScrub:   {right: admin, handle: on((*conn).onStorageScrub)},
}

// on gives a handler of one message type the table's shape.
func on[M protocol.Message](h func(*conn, M) (protocol.Message, *fault)) handler {
	return func(c *conn, _ uint64, _ cluster.Judged, m protocol.Message) (protocol.Message, *fault) {
		return h(c, m.(M))
	}
}

// onJudged is on for a handler that changes something: the leader asks by what the right to do so was judged.
func onJudged[M protocol.Message](h func(*conn, cluster.Judged, M) (protocol.Message, *fault)) handler {
	return func(c *conn, _ uint64, j cluster.Judged, m protocol.Message) (protocol.Message, *fault) {
		return h(c, j, m.(M))
	}
}

// onWithID is on for a handler that answers by itself.
func onWithID[M protocol.Message](h func(*conn, uint64, M) (protocol.Message, *fault)) handler {
	return func(c *conn, id uint64, _ cluster.Judged, m protocol.Message) (protocol.Message, *fault) {
		return h(c, id, m.(M))
	}
}

// dispatch looks a frame up and runs it. An error ends the connection.
func (c *conn) dispatch(body []byte) error {
	kind, id, err := protocol.Peek(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	r, ok := requests[kind]
	if !ok {
		return c.unknownKind(kind, id)
	}
	c.s.metrics.requests.WithLabelValues(kind.String()).Inc()
	if c.patient && c.s.alone.Load() && !lonely[kind] {
		c.answer(id, nil, &fault{code: errNoQuorum.code, outcome: protocol.OutcomeRejected, text: errNoQuorum.text})
		return nil
	}
	if r.inline != nil {
		return r.inline(c, body)
	}
	_, m, err := protocol.Decode(body)
	if err != nil {
		return &fault{code: protocol.CodeMalformed, text: err.Error()}
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.work.Go(func() {
		defer func() { <-c.slots }()
		answer, f := c.judge(&r, id, m)
		for tries := 1; f != nil && f.code == protocol.CodeStale && tries < staleTries; tries++ {
			answer, f = c.judge(&r, id, m)
		}
		if answer != nil || f != nil {
			c.answer(id, answer, f)
		}
	})
	return nil
}

// staleTries is how often a request is judged, if the leader has a newer policy each time.
const staleTries = 3

// judge decides on a request and handles it, once this node has applied what it asks for.
func (c *conn) judge(r *request, id uint64, m protocol.Message) (protocol.Message, *fault) {
	if f := c.after(afterOf(m)); f != nil {
		return nil, f
	}
	j := c.s.judged()
	if r.right.needs && !r.right.named {
		if f := c.has(r.right.verb); f != nil {
			return nil, f
		}
	}
	return r.handle(c, id, j, m)
}

// afterOf is the index that a request wants to see applied, 0 = none.
func afterOf(m protocol.Message) uint64 {
	switch m := m.(type) {
	case *protocol.Subscribe:
		return m.After
	case *protocol.TopicGet:
		return m.After
	case *protocol.TopicList:
		return m.After
	case *protocol.GroupGet:
		return m.After
	case *protocol.GroupList:
		return m.After
	case *protocol.Consume:
		return m.After
	case *protocol.PolicyGet:
		return m.After
	case *protocol.RevokeList:
		return m.After
	}
	return 0
}

// unknownKind answers a kind that clients do not send. A kind of a later version is an
// error answer; a frame that only brokers send ends the connection.
func (c *conn) unknownKind(kind protocol.Kind, id uint64) error {
	if kind.Known() {
		return &fault{code: protocol.CodeMalformed, text: fmt.Sprintf("%v is not a frame that a client sends here", kind)}
	}
	c.answer(id, nil, &fault{code: protocol.CodeUnsupported, text: fmt.Sprintf("frame kind %d is unknown to protocol version %d", kind, protocol.Version)})
	return nil
}

// has decides on a verb without a resource.
func (c *conn) has(v policy.Verb) *fault {
	if d := c.subject().Has(v); !d.Allow {
		return c.denied(v, "", d)
	}
	return nil
}

// allowed decides on a verb and a name.
func (c *conn) allowed(v policy.Verb, name topic.Name) *fault {
	if d := c.subject().Decide(v, name); !d.Allow {
		return c.denied(v, string(name), d)
	}
	return nil
}

// denied makes the answer to a request without the right, and logs it. It is the same whether or not
// the name exists. Rule, line and version are fields of the answer.
func (c *conn) denied(v policy.Verb, resource string, d policy.Decision) *fault {
	c.s.metrics.denied.WithLabelValues(v.String()).Inc()
	who := string(c.peer.Principal)
	if skipped, ok := c.s.denials.allow(who, v.String()+" "+resource); ok {
		c.s.log.Warn("denied", "identity", who, "verb", v.String(), "resource", clip(resource), "rule", d.Rule, "line", d.Line, "policy", d.Version, "reason", d.Reason, "suppressed", skipped)
	}
	return &fault{code: protocol.CodeDenied, outcome: protocol.OutcomeRejected, decision: d, text: d.Reason + "; ask an admin for the right"}
}
