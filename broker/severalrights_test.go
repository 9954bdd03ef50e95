package broker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
)

// closesWithin is how long after the answer to a revocation every node has ended the connections.
const closesWithin = time.Second

// stream reads a connection from now on, until it ends.
type stream struct {
	name string
	raw  *brokertest.Raw
	last protocol.Message
	next int64 // of the last delivery
	end  time.Time
	done chan struct{}
}

func readOn(name string, r *brokertest.Raw) *stream {
	s := &stream{name: name, raw: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for {
			m, err := r.Read1()
			if err != nil {
				s.end = time.Now()
				return
			}
			if d, ok := m.(*protocol.Deliver); ok {
				s.next = d.Next
			}
			s.last = m
		}
	}()
	return s
}

// publishOn publishes without reading an answer until the connection ends, slowly enough for the bubble's time to pass.
func publishOn(r *brokertest.Raw, topicName string) {
	for sequence := uint64(0); ; sequence++ {
		m := protocol.Publish{Topic: topicName, Producer: [16]byte{2}, Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: []byte("more")})}
		if _, err := r.Write(m.AppendFrame(nil, sequence+1)); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leaderFirst lists the nodes, the leader first.
func leaderFirst(s *brokertest.Several) (ids []string) {
	for id, n := range s.Nodes {
		if n == s.Leader() {
			ids = append([]string{id}, ids...)
		} else {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestT06RevokedOnEachNode: a revocation through one node ends the identity's connections on every node, idle, publishing and
// consuming; what is published after it reaches none of them, also on a node that lags and learns of both at once. Nobody comes back.
func TestT06RevokedOnEachNode(t *testing.T) {
	for through := range 3 {
		t.Run(fmt.Sprint("through ", through), func(t *testing.T) {
			inSeveral(t, func(t *testing.T, s *brokertest.Several) {
				ids := leaderFirst(s)
				admin := s.Nodes[ids[through]].Dial(t, "admin")
				if m := admin.Publish("busy", 0, "before"); m.Kind() != protocol.KindPublished {
					t.Fatalf("%#v", m)
				}
				cert := s.PKI.Client("victim")
				var streams []*stream
				var publishing sync.WaitGroup
				for _, id := range ids {
					for _, sort := range []string{"idle", "publishing", "consuming"} {
						r := s.Nodes[id].Connect(t, cert)
						r.Hello()
						switch sort {
						case "publishing":
							if m := r.Ask(&protocol.TopicCreate{Name: "victim", IfNotExists: true}); m.Kind() != protocol.KindTopic {
								t.Fatalf("%#v", m)
							}
							publishing.Go(func() { publishOn(r, "victim") })
						case "consuming":
							if m := r.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{"busy"}, Start: protocol.StartEarliest, CreditBytes: 1 << 30, CreditRecords: 1 << 30}); m.Kind() != protocol.KindSubscribed {
								t.Fatalf("%#v", m)
							}
						}
						streams = append(streams, readOn(id+", "+sort, r))
					}
				}
				time.Sleep(time.Second)
				lags := ids[2-through/2] // neither the leader nor the admin's node
				for _, id := range ids {
					s.Peers.Hold(id, lags)
				}
				if m := admin.Ask(&protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: cert.ID}}); m.Kind() != protocol.KindOK {
					t.Fatalf("%#v", m)
				}
				revoked := time.Now()
				var first int64
				long := strings.Repeat("after", 10_000) // so that there is time to deliver the first while the node applies the next
				for i := range uint64(100) {
					m, ok := admin.Publish("busy", i+1, long).(*protocol.Published)
					if !ok {
						t.Fatalf("%#v", m)
					}
					if i == 0 {
						first = m.Offset
					}
				}
				for _, id := range ids {
					s.Peers.Release(id, lags)
				}
				released := time.Now()
				for _, x := range streams {
					<-x.done
					if brokertest.Code(x.last) != protocol.CodeRevoked {
						t.Errorf("%s: ended with %#v", x.name, x.last)
					}
					if x.next > first {
						t.Errorf("%s: delivered up to %d, the record %d was published after the revocation", x.name, x.next, first)
					}
					since := revoked
					if x.name[:2] == lags {
						since = released.Add(healTime)
					}
					if x.end.After(since.Add(closesWithin)) {
						t.Errorf("%s: ended %v after it", x.name, x.end.Sub(since))
					}
				}
				publishing.Wait()
				for _, id := range ids {
					r := s.Nodes[id].Connect(t, cert)
					r.Send(&protocol.Hello{Versions: []uint64{protocol.Version}})
					if m := r.Receive(); brokertest.Code(m) != protocol.CodeRevoked {
						t.Errorf("%s: a new connection got %#v", id, m)
					}
				}
			})
		})
	}
}

// healTime is how long a node that was cut off may take to hear of what it missed: raft waits longer before each attempt.
const healTime = 10 * time.Second

// TestA06EachNode: a right that was granted through one node holds on every other one for a request that names the change, and one that
// was taken holds nowhere: a request is judged by the change or a later one, or refused.
func TestA06EachNode(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		ids := leaderFirst(s)
		version := uint64(1)
		apply := func(admin *brokertest.Raw, verbs, topics string) *protocol.Policy {
			t.Helper()
			m := admin.Ask(&protocol.PolicyApply{Expect: version, Document: []byte(brokertest.PolicyFor("user", verbs, topics))})
			applied, ok := m.(*protocol.Policy)
			if !ok {
				t.Fatalf("%#v", m)
			}
			version = applied.Version
			return applied
		}
		for _, through := range ids {
			admin := s.Nodes[through].Dial(t, "admin")
			for _, at := range ids {
				name := "topic." + through + "." + at
				created, ok := admin.Ask(&protocol.TopicCreate{Name: name}).(*protocol.Topic)
				if !ok {
					t.Fatalf("%s: %#v", name, created)
				}
				user := s.Nodes[at].Dial(t, "user")
				uses := func(after uint64) map[string]protocol.Message {
					return map[string]protocol.Message{
						"get":       user.Ask(&protocol.TopicGet{Name: name, After: after}),
						"subscribe": user.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{name}, CreditBytes: 1 << 20, CreditRecords: 100, After: after}),
						"list":      user.Ask(&protocol.TopicList{Pattern: name, After: after}),
					}
				}
				lags := at != ids[0] && at != through
				during := func(change func() *protocol.Policy) map[string]protocol.Message {
					if lags { // and hears of the change while the first request waits for it
						for _, id := range ids {
							s.Peers.Hold(id, at)
						}
						time.AfterFunc(time.Second, func() {
							for _, id := range ids {
								s.Peers.Release(id, at)
							}
						})
					}
					return uses(change().Applied)
				}
				for what, m := range during(func() *protocol.Policy { return apply(admin, "publish, subscribe", name) }) {
					list, isList := m.(*protocol.Topics)
					if brokertest.Code(m) != 0 || isList && len(list.Topics) != 1 {
						t.Errorf("%s: %s after the grant: %#v", name, what, m)
					}
				}
				granted := version
				m, d := publishAndRead(t, user, name, "granted")
				if m.Kind() != protocol.KindPublished {
					t.Fatalf("%s: publish after the grant: %#v", name, m)
				}
				if got := policyOf(t, d); got < granted {
					t.Errorf("%s: published under policy %d, granted by %d", name, got, granted)
				}
				user.Ask(&protocol.Unsubscribe{Sub: 1})
				for what, m := range during(func() *protocol.Policy { return apply(admin, "publish", "other") }) {
					refused, isError := m.(*protocol.Error)
					list, isList := m.(*protocol.Topics)
					if isList && len(list.Topics) == 0 {
						continue
					}
					if !isError || refused.Code != protocol.CodeDenied || refused.PolicyVer < version {
						t.Errorf("%s: %s after the right was taken by %d: %#v", name, what, version, m)
					}
				}
				if m, ok := user.Publish(name, 1, "taken").(*protocol.Error); !ok || m.Code != protocol.CodeDenied || m.PolicyVer < version {
					t.Errorf("%s: publish after the right was taken by %d: %#v", name, version, m)
				}
				user.Close()
			}
		}
	})
}

// publishAndRead publishes a producer's first record to a topic that the connection is subscribed to, and returns the answer and the
// delivery, which may come first.
func publishAndRead(t *testing.T, r *brokertest.Raw, topicName, body string) (answer protocol.Message, d *protocol.Deliver) {
	t.Helper()
	r.Send(brokertest.PublishOf(topicName, 0, body))
	for answer == nil || d == nil && answer.Kind() == protocol.KindPublished {
		switch m := r.Receive().(type) {
		case *protocol.Deliver:
			d = m
		case *protocol.Event: // news of the leader
		default:
			answer = m
		}
	}
	return answer, d
}

// policyOf is the version under which the first batch of a delivery was published.
func policyOf(t *testing.T, d *protocol.Deliver) uint64 {
	t.Helper()
	var b batch.Batch
	if _, err := batch.Parse(d.Batches, &b); err != nil {
		t.Fatal(err)
	}
	return b.PolicyVersion
}

// TestA06PublishOnALaggingNode: a publish names no index. On a node that has not heard that the right was taken it is refused all the
// same, because the leader has: with the node's old policy it would be in the log.
func TestA06PublishOnALaggingNode(t *testing.T) {
	inSeveral(t, func(t *testing.T, s *brokertest.Several) {
		ids := leaderFirst(s)
		admin, user := s.Nodes[ids[0]].Dial(t, "admin"), s.Nodes[ids[2]].Dial(t, "user")
		if m := admin.Ask(&protocol.TopicCreate{Name: "orders"}); m.Kind() != protocol.KindTopic {
			t.Fatalf("%#v", m)
		}
		if m := user.Publish("orders", 0, "first"); m.Kind() != protocol.KindPublished {
			t.Fatalf("%#v", m)
		}
		for _, id := range ids { // what the leader sends; its own publishes still arrive there
			s.Peers.Hold(id, ids[2])
		}
		taken, ok := admin.Ask(&protocol.PolicyApply{Expect: 1, Document: []byte(brokertest.PolicyFor("user", "publish", "other"))}).(*protocol.Policy)
		if !ok {
			t.Fatalf("%#v", taken)
		}
		time.AfterFunc(2*time.Second, func() {
			for _, id := range ids {
				s.Peers.Release(id, ids[2])
			}
		})
		m, isError := user.Publish("orders", 1, "late").(*protocol.Error)
		if !isError || m.Code == protocol.CodeDenied && m.PolicyVer < taken.Version { // unknown, if the node gave its link up before the answer came
			t.Errorf("%#v", m)
		}
		got, ok := admin.Ask(&protocol.TopicGet{Name: "orders"}).(*protocol.Topic)
		if !ok || got.Info.Partitions[0].Next != 1 {
			t.Errorf("the log has it: %#v", got)
		}
	})
}
