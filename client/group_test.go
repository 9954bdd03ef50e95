package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
)

const groupPolicy = `
bindings:
  - identity: "spiffe://test.example/client/admin"
    allow: [{verbs: [publish, subscribe, manage, consume], topics: [">"], groups: [">"]}, {verbs: [admin]}]
  - identity: "spiffe://test.example/client/*"
    allow: [{verbs: [publish, consume, manage], topics: [">"], groups: [">"]}]
`

// groupWorld is a node with a topic of n records and a group.
func groupWorld(t *testing.T, n int, spec client.GroupSpec) (*brokertest.Node, *client.Client) {
	t.Helper()
	node := brokertest.Start(t, brokertest.Options{Policy: groupPolicy})
	c := dialNode(t, nodeOptions(node, "admin"))
	if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	publishMany(t, c, n)
	spec.Topics = []string{"orders"}
	if _, created, err := c.Groups().Create(t.Context(), "billing", spec, client.Earliest()); err != nil || !created {
		t.Fatal(created, err)
	}
	return node, c
}

func openConsumer(t *testing.T, c *client.Client, window int) *client.Consumer {
	t.Helper()
	k, err := c.OpenConsumer(t.Context(), "billing", client.ConsumeOptions{Window: window})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func next(t *testing.T, k *client.Consumer) *client.Delivery {
	t.Helper()
	d, err := k.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestGroupShares: members share the records of a group; each is delivered to one of them, and none is skipped.
func TestGroupShares(t *testing.T) {
	const records = 300
	node, c := groupWorld(t, records, client.GroupSpec{})
	seen := make(chan int64, records+1)
	for m := range 3 {
		k := openConsumer(t, dialNode(t, nodeOptions(node, fmt.Sprintf("member%d", m))), 50)
		go func() {
			for d, err := range k.Deliveries(t.Context()) {
				if err != nil {
					t.Error(err)
					return
				}
				if string(d.Body) != string(body(int(d.Offset))) || d.Attempt != 1 {
					t.Errorf("record %d, delivery %d: %q", d.Offset, d.Attempt, d.Body)
				}
				if err := d.AckSync(t.Context()); err != nil {
					t.Error(err)
				}
				seen <- d.Offset
			}
		}()
	}
	count := map[int64]int{}
	for range records {
		count[<-seen]++
	}
	if len(count) != records {
		t.Errorf("%d records of %d were delivered", len(count), records)
	}
	info, err := c.Groups().Get(t.Context(), "billing")
	if err != nil || len(info.Positions) != 1 || info.Positions[0].Floor != records || info.Positions[0].Pending != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestGroupNack: what is given back comes again, with its number; what is too often, or never to come again, is put aside.
func TestGroupNack(t *testing.T) {
	_, c := groupWorld(t, 3, client.GroupSpec{MaxDeliver: 3})
	k := openConsumer(t, c, 1)
	for attempt := uint64(1); attempt <= 3; attempt++ {
		if d := next(t, k); d.Offset != 0 || d.Attempt != attempt {
			t.Fatalf("record %d, delivery %d, want 0, %d", d.Offset, d.Attempt, attempt)
		} else {
			d.Nack()
		}
	}
	d := next(t, k)
	if d.Offset != 1 {
		t.Fatalf("record %d behind one that was delivered too often", d.Offset)
	}
	if err := errors.Join(d.Extend(t.Context()), d.Term(t.Context(), "not for us"), d.AckSync(t.Context())); err != nil {
		t.Fatal(err)
	}
	last := next(t, k)
	last.Ack()
	last.Ack()
	last.Nack()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := c.Groups().Get(t.Context(), "billing")
	if err != nil || info.Positions[0] != (client.GroupPosition{Topic: "orders", Floor: 3, End: 3, Retries: 2, Aside: 2}) {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestGroupMemberLeaves: what a member held goes to another one at once when its connection ends.
func TestGroupMemberLeaves(t *testing.T) {
	node, c := groupWorld(t, 2, client.GroupSpec{AckWait: time.Hour})
	first := dialNode(t, nodeOptions(node, "first"))
	a := openConsumer(t, first, 1)
	held := next(t, a)
	b := openConsumer(t, c, 5)
	other := next(t, b)
	if held.Offset == other.Offset {
		t.Fatalf("record %d has two members", held.Offset)
	}
	a.Close()
	if again := next(t, b); again.Offset != held.Offset || again.Attempt != 2 {
		t.Errorf("record %d, delivery %d", again.Offset, again.Attempt)
	} else if err := again.AckSync(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestGroupDenied: a denied topic is not delivered to a member, and what it may not consume any more ends at once.
func TestGroupDenied(t *testing.T) {
	node, c := groupWorld(t, 1, client.GroupSpec{})
	if _, err := c.Topics().Create(t.Context(), "secret", client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), "secret", client.Record{Body: []byte("s")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Groups().Create(t.Context(), "all", client.GroupSpec{Topics: []string{">"}}, client.Earliest()); err != nil {
		t.Fatal(err)
	}
	node.Apply(t, strings.Replace(groupPolicy, "client/*\"\n", "client/*\"\n    deny: [{verbs: [consume], topics: [secret]}]\n", 1))
	member := dialNode(t, nodeOptions(node, "member"))
	k, err := member.OpenConsumer(t.Context(), "all", client.ConsumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d := next(t, k); d.Topic != "orders" {
		t.Errorf("a record of %s", d.Topic)
	} else if err := d.AckSync(t.Context()); err != nil {
		t.Error(err)
	}
	if list, err := k.Fetch(t.Context(), 1, 100*time.Millisecond); len(list) > 0 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	node.Apply(t, strings.Replace(groupPolicy, "client/*\"\n", "client/*\"\n    deny: [{verbs: [consume], topics: [], groups: [all]}]\n", 1))
	if _, err := k.Next(t.Context()); !errors.Is(err, client.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
	if _, err := member.OpenConsumer(t.Context(), "all", client.ConsumeOptions{}); !errors.Is(err, client.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
}

// TestGroupFailover (G-01): the leader dies while members hold records. Another node leads; what was acknowledged stays so, what a
// member holds it may still settle, and nothing is skipped.
func TestGroupFailover(t *testing.T) {
	inCrowd(t, func(t *testing.T, s *crowd) {
		const records = 60
		c := s.dial(s.follower())
		if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{}); err != nil {
			t.Fatal(err)
		}
		publishMany(t, c, records)
		if _, _, err := c.Groups().Create(t.Context(), "billing", client.GroupSpec{Topics: []string{"orders"}}, client.Earliest()); err != nil {
			t.Fatal(err)
		}
		k := openConsumer(t, c, 10)
		seen := map[int64]int{}
		for range 20 {
			d := next(t, k)
			if seen[d.Offset]++; d.Offset >= 15 {
				continue // held over the failover
			}
			if err := d.AckSync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range s.IDs {
			if n := s.Nodes[id]; n == s.Leader() {
				s.Kill(id)
				s.cut(n.Addr)
				break
			}
		}
		for len(seen) < records {
			d := next(t, k)
			seen[d.Offset]++
			if d.Offset < 15 {
				t.Fatalf("record %d was acknowledged and came again", d.Offset)
			}
			if err := d.AckSync(t.Context()); err != nil && !errors.Is(err, client.ErrStaleDelivery) {
				t.Fatal(err)
			}
		}
		info, err := c.Groups().Get(t.Context(), "billing")
		if err != nil || info.Positions[0].Floor != 15 {
			t.Errorf("%+v, %v", info, err)
		}
	})
}
