package broker_test

import (
	"fmt"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
)

// requestOf is a good request of a kind on a topic.
func requestOf(t *testing.T, k protocol.Kind, topicName string) protocol.Message {
	switch k {
	case protocol.KindPublish:
		return &protocol.Publish{Topic: topicName, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: []byte("b")})}
	case protocol.KindSubscribe:
		return &protocol.Subscribe{Sub: 1, Patterns: []string{topicName}}
	case protocol.KindUnsubscribe:
		return &protocol.Unsubscribe{Sub: 1}
	case protocol.KindTopicCreate:
		return &protocol.TopicCreate{Name: topicName}
	case protocol.KindTopicGet:
		return &protocol.TopicGet{Name: topicName}
	case protocol.KindTopicAlter:
		return &protocol.TopicAlter{Name: topicName, Mask: protocol.AlterMaxRecords, Spec: protocol.TopicSpec{MaxRecords: 5}}
	case protocol.KindTopicDelete:
		return &protocol.TopicDelete{Name: topicName}
	case protocol.KindGroupCreate:
		return &protocol.GroupCreate{Name: topicName, Spec: protocol.GroupSpec{Topics: []string{"mine"}}, Start: protocol.StartEarliest}
	case protocol.KindGroupGet:
		return &protocol.GroupGet{Name: topicName}
	case protocol.KindGroupPause:
		return &protocol.GroupPause{Name: topicName}
	case protocol.KindGroupDelete:
		return &protocol.GroupDelete{Name: topicName}
	case protocol.KindConsume:
		return &protocol.Consume{Sub: 1, Group: topicName, Window: 1}
	case protocol.KindPolicyApply:
		return &protocol.PolicyApply{Expect: 1, Document: []byte(brokertest.Policy)}
	case protocol.KindPolicyExplain:
		return &protocol.PolicyExplain{Action: "publish", Resource: topicName}
	case protocol.KindRevoke:
		return &protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: "spiffe://test.example/client/gone"}}
	}
	return protocol.New(k)
}

// free are the kinds that every identified client may send, and what they answer.
var free = map[protocol.Kind]protocol.Kind{
	protocol.KindUnsubscribe: protocol.KindOK, protocol.KindPing: protocol.KindPong, protocol.KindTopicList: protocol.KindTopics,
	protocol.KindPolicyExplain: protocol.KindDecision, protocol.KindWhoAmI: protocol.KindIdentity, protocol.KindCredit: 0, protocol.KindPong: 0,
	protocol.KindGroupList: protocol.KindGroups, protocol.KindSettle: protocol.KindError,
}

// TestA01EveryKindNeedsItsRight sends each kind of the table without any right, with every right but
// the one it needs, and with just that one.
func TestA01EveryKindNeedsItsRight(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("nobody", "publish", "elsewhere")})
	admin := n.Dial(t, "admin")
	for _, name := range []string{"mine", "deleted"} {
		if m := admin.Ask(&protocol.TopicCreate{Name: name}); brokertest.Code(m) != 0 {
			t.Fatalf("%#v", m)
		}
	}
	for k, verb := range broker.RequestKinds() {
		t.Run(k.String(), func(t *testing.T) {
			topicName := "mine"
			if k == protocol.KindTopicDelete {
				topicName = "deleted"
			}
			if want, ok := free[k]; ok {
				if want != 0 {
					if m := n.Dial(t, "stranger").Ask(requestOf(t, k, topicName)); m.Kind() != want {
						t.Errorf("without rights: %#v", m)
					}
				}
				return
			}
			if verb == "" && k != protocol.KindTopicGet { // which any right on the name allows
				t.Fatalf("%v needs no right and is not on the list of those", k)
			}
			if m := n.Dial(t, "stranger").Ask(requestOf(t, k, topicName)); brokertest.Code(m) != protocol.CodeDenied {
				t.Errorf("without rights: %#v", m)
			}
			if m := n.Dial(t, "stranger").Ask(requestOf(t, k, "no.such.topic")); brokertest.Code(m) != protocol.CodeDenied {
				t.Errorf("without rights, a name that is not there: %#v", m)
			}
		})
	}
	// The wrong right and the right one, verb by verb.
	for _, v := range policy.Verbs() {
		n.Apply(t, policyWithVerb(v))
		for k, verb := range broker.RequestKinds() {
			if _, ok := free[k]; ok {
				continue
			}
			request := requestOf(t, k, "mine")
			switch k {
			case protocol.KindTopicDelete:
				request = requestOf(t, k, "scratch")
				if m := admin.Ask(&protocol.TopicCreate{Name: "scratch", IfNotExists: true}); brokertest.Code(m) != 0 {
					t.Fatalf("%#v", m)
				}
			case protocol.KindPolicyApply: // the same document again
				current := n.Group.View().Policy()
				request = &protocol.PolicyApply{Expect: current.Version, Force: true, Document: current.Document}
			}
			m := n.Dial(t, "one-verb").Ask(request)
			denied := brokertest.Code(m) == protocol.CodeDenied
			may := verb == v.String() || k == protocol.KindTopicGet && v.HasResource()
			if denied == may {
				t.Errorf("%v with only %v: %#v", k, v, m)
			}
		}
	}
}

// policyWithVerb gives one-verb one verb on everything.
func policyWithVerb(v policy.Verb) string {
	on := fmt.Sprintf("{verbs: [%v]}", v)
	if v.HasResource() {
		on = fmt.Sprintf("{verbs: [%v], topics: [\">\"]}", v)
	}
	if v == policy.Consume {
		on = `{verbs: [consume], topics: [">"], groups: [">"]}`
	}
	return brokertest.PolicyFor("nobody", "publish", "elsewhere") + fmt.Sprintf("  - identity: \"spiffe://test.example/client/one-verb\"\n    allow:\n      - %s\n", on)
}
