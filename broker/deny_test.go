package broker_test

import (
	"testing"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// TestA04DenyOnEveryPath: a wildcard subscription whose grant overlaps a deny delivers nothing of the denied topic: not
// what is kept already, from the start, by time, the last ones or by cursor; not what comes; not a topic that is born later.
func TestA04DenyOnEveryPath(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("c", "subscribe", `">"`) + "    deny:\n      - {verbs: [subscribe], topics: [a.secret, later.secret]}\n"})
	admin := n.Dial(t, "admin")
	var incarnation uint64
	for i, name := range []string{"a.secret", "a.open"} {
		m, ok := admin.Ask(&protocol.TopicCreate{Name: name}).(*protocol.Topic)
		if !ok {
			t.Fatalf("create %s: %#v", name, m)
		}
		if i == 0 {
			incarnation = m.Info.Incarnation
		}
		for k := range 3 {
			if m := admin.Publish(name, uint64(k), "kept in "+name); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
		}
	}
	for name, sub := range map[string]protocol.Subscribe{
		"latest":   {Start: protocol.StartLatest},
		"earliest": {Start: protocol.StartEarliest},
		"time":     {Start: protocol.StartTime, Value: 1},
		"tail":     {Start: protocol.StartTail, Value: 2},
		"cursor":   {Start: protocol.StartEarliest, Cursors: []protocol.Cursor{{Topic: "a.secret", Incarnation: incarnation, Offset: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.Dial(t, "c")
			sub.Sub, sub.Patterns, sub.CreditBytes, sub.CreditRecords = 1, []string{">"}, 1<<30, 1<<30
			m, ok := c.Ask(&sub).(*protocol.Subscribed)
			if !ok || len(m.Assignments) != 1 || m.Assignments[0].Topic != "a.open" {
				t.Fatalf("%#v", m)
			}
			if m := admin.Publish("a.secret", nextSequence(n, "a.secret"), "live"); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
			if m := admin.Publish("a.open", nextSequence(n, "a.open"), "last"); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
			end := nextSequence(n, "a.open")
			for {
				switch m := c.Receive().(type) {
				case *protocol.Deliver:
					if m.Topic != "a.open" {
						t.Fatalf("a record of %s was delivered", m.Topic)
					}
					if uint64(m.Next) >= end {
						return
					}
				case *protocol.Event:
					if m.Topic == "a.secret" && m.Type != protocol.EventRecreated {
						t.Errorf("told of it: %#v", m)
					}
				default:
					t.Fatalf("%#v", m)
				}
			}
		})
	}
	t.Run("born later", func(t *testing.T) {
		c := n.Dial(t, "c")
		if m := c.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{">"}, CreditBytes: 1 << 30, CreditRecords: 1 << 30}); m.Kind() != protocol.KindSubscribed {
			t.Fatalf("%#v", m)
		}
		for _, name := range []string{"later.secret", "later.open"} {
			if m := admin.Ask(&protocol.TopicCreate{Name: name}); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
			if m := admin.Publish(name, 0, "x"); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
		}
		for {
			switch m := c.Receive().(type) {
			case *protocol.Deliver:
				if m.Topic != "later.open" {
					t.Fatalf("a record of %s was delivered", m.Topic)
				}
				return
			case *protocol.Event:
				if m.Topic == "later.secret" {
					t.Errorf("told of it: %#v", m)
				}
			default:
				t.Fatalf("%#v", m)
			}
		}
	})
}

// nextSequence is where the admin's producer goes on: it alone publishes, so records and sequence are one.
func nextSequence(n *brokertest.Node, name string) uint64 {
	t, _ := n.Group.View().Topic(topic.Name(name))
	p, _ := n.Group.View().Partition(t.Partitions[0])
	return uint64(p.Next)
}
