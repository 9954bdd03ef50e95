package broker_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// walker sends any kind in any state, and knows what must come of it.
type walker struct {
	t      *testing.T
	n      *brokertest.Node
	random *rand.Rand
	r      *brokertest.Raw
	hello  bool            // said on this connection
	subs   map[uint64]bool // open on this connection
	topics map[string]int  // records of those that exist
	spec   map[string]bool // those that were altered
	groups map[string]bool
	steps  int
}

const walkerPolicy = `
bindings:
  - identity: "spiffe://test.example/client/admin"
    allow: [{verbs: [publish, subscribe, manage], topics: [">"]}, {verbs: [admin]}]
  - identity: "spiffe://test.example/client/walker"
    allow: [{verbs: [publish, subscribe, manage], topics: ["a.*"]}]
`

// TestP08RandomWalk sends frames of all kinds, right and wrong, before and after HELLO, and compares what comes back and
// what is left behind with a model: what is illegal is an error, and never has a part of its effect.
func TestP08RandomWalk(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &walker{t: t, n: brokertest.Start(t, brokertest.Options{Policy: walkerPolicy}), random: rand.New(rand.NewPCG(seed, 8)), topics: map[string]int{}, spec: map[string]bool{}, groups: map[string]bool{}}
	kinds := w.kinds()
	for range lane.Pick(800, 10_000, 100_000) {
		if w.r == nil {
			w.r, w.hello, w.subs = w.n.Connect(t, w.n.PKI.Client("walker")), false, map[uint64]bool{}
		}
		k := kinds[w.random.IntN(len(kinds))]
		if !w.hello && w.random.IntN(5) > 0 {
			k = protocol.KindHello
		}
		w.step(k)
		w.steps++
		if t.Failed() {
			t.Fatalf("in step %d", w.steps)
		}
	}
	w.compare()
}

// kinds are all there are, those of clients more often, and one that is unknown.
func (w *walker) kinds() (kinds []protocol.Kind) {
	for k := protocol.Kind(1); k < 255; k++ {
		if k.Known() || k == 250 {
			kinds = append(kinds, k)
		}
	}
	for range 6 {
		for k := range broker.RequestKinds() {
			kinds = append(kinds, k)
		}
		for range 5 {
			kinds = append(kinds, protocol.KindPublish, protocol.KindSubscribe, protocol.KindTopicCreate)
		}
	}
	return kinds
}

// step sends one frame.
func (w *walker) step(k protocol.Kind) {
	w.t.Helper()
	_, request := broker.RequestKinds()[k]
	switch {
	case !w.hello && k == protocol.KindHello:
		w.r.Hello()
		w.hello = true
	case !w.hello:
		w.send(k)
		w.ends(protocol.KindRefused)
	case k == 250:
		w.r.Write([]byte{0, 0, 0, 4, 0x92, 0xcc, 250, 1})
		w.want(w.answer(), protocol.CodeUnsupported, 0)
	case !request:
		w.send(k)
		w.ends(protocol.KindEvent)
	default:
		w.request(k)
	}
}

// send sends a frame of a kind with zero fields.
func (w *walker) send(k protocol.Kind) {
	if k == 250 {
		w.r.Write([]byte{0, 0, 0, 4, 0x92, 0xcc, 250, 1})
		return
	}
	w.r.Write(protocol.New(k).AppendFrame(nil, 1))
}

// ends expects the end of the connection, with MALFORMED.
func (w *walker) ends(kind protocol.Kind) {
	w.t.Helper()
	if last := w.r.WaitEnd(); last == nil || last.Kind() != kind || brokertest.Code(last) != protocol.CodeMalformed {
		w.t.Errorf("ended with %#v", last)
	}
	w.r.Close()
	w.r = nil
}

// answer reads the next frame that is no event.
func (w *walker) answer() protocol.Message {
	w.t.Helper()
	for {
		m := w.r.Receive()
		if _, event := m.(*protocol.Event); !event {
			return m
		}
	}
}

// want compares an answer: with a code it is that error, else of that kind.
func (w *walker) want(m protocol.Message, code protocol.Code, kind protocol.Kind) {
	w.t.Helper()
	if brokertest.Code(m) != code || code == 0 && m.Kind() != kind {
		w.t.Errorf("got %#v, want %v or %v", m, code, kind)
	}
}

// request sends a good or bad request and compares its answer.
func (w *walker) request(k protocol.Kind) {
	w.t.Helper()
	name := []string{"a.x", "a.y", "a.z", "b.x", "a..x", "a.*"}[w.random.IntN(6)]
	_, exists := w.topics[name]
	code := protocol.Code(0)
	switch {
	case name == "a..x" || name == "a.*":
		code = protocol.CodeInvalid
	case name == "b.x":
		code = protocol.CodeDenied
	case !exists:
		code = protocol.CodeNotFound
	}
	switch k {
	case protocol.KindPublish:
		w.publish(name, code)
	case protocol.KindSubscribe:
		w.subscribe(name, code)
	case protocol.KindTopicCreate:
		want := code
		if code == protocol.CodeNotFound {
			want = 0
			w.topics[name] = 0
		} else if code == 0 && w.spec[name] { // else it is the same request again
			want = protocol.CodeExists
		}
		w.ask(&protocol.TopicCreate{Name: name}, want, protocol.KindTopic)
	case protocol.KindTopicDelete:
		delete(w.topics, name)
		delete(w.spec, name)
		w.ask(&protocol.TopicDelete{Name: name}, code, protocol.KindOK)
	case protocol.KindTopicGet:
		w.ask(&protocol.TopicGet{Name: name}, code, protocol.KindTopic)
	case protocol.KindTopicAlter:
		m := &protocol.TopicAlter{Name: name, Mask: protocol.AlterMaxAge, Spec: protocol.TopicSpec{MaxAgeMs: 1 << 40}}
		if w.random.IntN(3) == 0 && (code == 0 || code == protocol.CodeNotFound) {
			m.Mask, code = 0x80, protocol.CodeInvalid
		}
		if code == 0 {
			w.spec[name] = true
		}
		w.ask(m, code, protocol.KindTopic)
	case protocol.KindCredit:
		w.r.Send(&protocol.Credit{Sub: w.random.Uint64N(4)}) // of nothing: it has no answer
	case protocol.KindPong:
		w.r.Send(&protocol.Pong{})
	case protocol.KindUnsubscribe:
		id := w.random.Uint64N(4)
		delete(w.subs, id)
		w.ask(&protocol.Unsubscribe{Sub: id}, 0, protocol.KindOK)
	case protocol.KindPing:
		w.ask(&protocol.Ping{}, 0, protocol.KindPong)
	case protocol.KindTopicList:
		w.ask(&protocol.TopicList{}, 0, protocol.KindTopics)
	case protocol.KindWhoAmI:
		w.ask(&protocol.WhoAmI{}, 0, protocol.KindIdentity)
	case protocol.KindPolicyExplain:
		w.ask(&protocol.PolicyExplain{Action: "publish", Resource: "a.x"}, 0, protocol.KindDecision)
	case protocol.KindGroupList:
		w.ask(&protocol.GroupList{}, 0, protocol.KindGroups)
	case protocol.KindSettle:
		w.ask(&protocol.Settle{Sub: w.random.Uint64N(4)}, protocol.CodeNotLeader, 0)
	case protocol.KindGroupCreate, protocol.KindGroupPause, protocol.KindGroupDelete, protocol.KindGroupGet, protocol.KindConsume:
		consumes := k == protocol.KindGroupGet || k == protocol.KindConsume
		switch {
		case code == protocol.CodeInvalid:
		case consumes:
			code = protocol.CodeDenied
		case code != protocol.CodeDenied && k == protocol.KindGroupCreate:
			code = 0
			w.groups[name] = true
		case code != protocol.CodeDenied && !w.groups[name]:
			code = protocol.CodeNotFound
		case code != protocol.CodeDenied:
			code = 0
		}
		kind := protocol.KindGroup
		if k == protocol.KindGroupDelete {
			kind = protocol.KindOK
			delete(w.groups, name)
		}
		w.ask(requestOf(w.t, k, name), code, kind)
	default: // what only admins may
		w.ask(requestOf(w.t, k, name), protocol.CodeDenied, 0)
	}
}

func (w *walker) ask(m protocol.Message, code protocol.Code, kind protocol.Kind) {
	w.t.Helper()
	w.r.Send(m)
	w.want(w.answer(), code, kind)
}

// publish sends a batch of two, or one that says it has three.
func (w *walker) publish(name string, code protocol.Code) {
	w.t.Helper()
	m := &protocol.Publish{Topic: name, Producer: [16]byte{byte(w.steps), byte(w.steps >> 8), byte(w.steps >> 16), 1}, Count: 2, Records: batch.AppendRecord(batch.AppendRecord(nil, &batch.Record{}), &batch.Record{Body: []byte("x")})}
	switch w.random.IntN(5) {
	case 0:
		if m.Count++; code == 0 {
			code = protocol.CodeInvalid
		}
	case 1:
		if m.Partition = 9; code == 0 {
			code = protocol.CodeNotFound
		}
	case 2:
		if m.Sequence = 5; code == 0 {
			code = protocol.CodeSequence
		}
	case 3:
		if m.Incarnation = 1 << 60; code == 0 {
			code = protocol.CodeRecreated
		}
	}
	if code == 0 {
		w.topics[name] += 2
	}
	w.ask(m, code, protocol.KindPublished)
}

// subscribe opens a subscription without credit.
func (w *walker) subscribe(name string, code protocol.Code) {
	w.t.Helper()
	id := w.random.Uint64N(4)
	m := &protocol.Subscribe{Sub: id, Patterns: []string{name}}
	if name == "a.*" {
		code = 0 // a pattern is fine here
	}
	if w.random.IntN(4) == 0 {
		if m.Start = 99; code == 0 && (name != "a.*" || len(w.topics) > 0) {
			code = protocol.CodeInvalid
		}
	}
	if code == 0 && w.subs[id] {
		code = protocol.CodeInvalid
	}
	if code == 0 {
		w.subs[id] = true
	}
	w.ask(m, code, protocol.KindSubscribed)
}

// compare holds what the broker has to the model.
func (w *walker) compare() {
	list, ok := w.n.Dial(w.t, "admin").Ask(&protocol.TopicList{}).(*protocol.Topics)
	if !ok || len(list.Topics) != len(w.topics) {
		w.t.Fatalf("%+v, want %v", list, w.topics)
	}
	for _, info := range list.Topics {
		if records, ok := w.topics[info.Name]; !ok || info.Partitions[0].Next != int64(records) {
			w.t.Errorf("%s has %d records, want %d", info.Name, info.Partitions[0].Next, records)
		}
	}
}
