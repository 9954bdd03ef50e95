package broker_test

import (
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// TestT05T06Revoked revokes by identity, key and serial: live connections of every sort end, get no delivery
// any more, and nobody comes back.
func TestT05T06Revoked(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	admin := n.Dial(t, "admin")
	sequence := uint64(0)
	each := lane.Pick(3, 33, 33) // connections per sort and way: about 100 together in lane 2
	for name, entry := range map[string]func(c *ca.Issued) protocol.Revocation{
		"identity": func(c *ca.Issued) protocol.Revocation {
			return protocol.Revocation{What: protocol.RevokeIdentity, Value: c.ID}
		},
		"key": func(c *ca.Issued) protocol.Revocation {
			return protocol.Revocation{What: protocol.RevokeSPKI, Value: spkiOf(c)}
		},
		"serial": func(c *ca.Issued) protocol.Revocation {
			return protocol.Revocation{What: protocol.RevokeSerial, Value: serialOf(c), Issuer: c.Leaf.Issuer.String()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert := n.PKI.Client("victim-" + name)
			ticket := n.PKI.ClientConfig(cert, identity.ALPNClient)
			ticket.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 2 {
				r := n.ConnectWith(t, ticket)
				if r.Hello(); r.Welcome.Resumed != (i > 0) {
					t.Fatalf("connection %d: resumed %v", i, r.Welcome.Resumed)
				}
			}
			var conns []*brokertest.Raw
			for i := range each {
				r := n.Connect(t, cert)
				r.Hello()
				switch i % 3 {
				case 1:
					if m := r.Publish("busy", uint64(i), "before"); m.Kind() == protocol.KindPublished {
						go r.Flood("busy") // until the broker ends it
					}
				case 2:
					if m := r.Ask(&protocol.Subscribe{Sub: 1, Patterns: []string{">"}, CreditBytes: 1 << 30, CreditRecords: 1 << 30}); m.Kind() != protocol.KindSubscribed {
						t.Fatalf("%#v", m)
					}
				}
				conns = append(conns, r)
			}
			start := time.Now()
			if m := admin.Ask(&protocol.Revoke{Entry: entry(cert)}); m.Kind() != protocol.KindOK {
				t.Fatalf("%#v", m)
			}
			after, ok := admin.Publish("busy", sequence, "after").(*protocol.Published)
			if !ok || after.Duplicate {
				t.Fatalf("%#v", after)
			}
			sequence++
			for _, r := range conns {
				var last protocol.Message
				for {
					m, err := r.Read1()
					if err != nil {
						break
					}
					if d, ok := m.(*protocol.Deliver); ok && d.Next > after.Offset {
						t.Errorf("delivered up to %d, the record %d was published after the revocation", d.Next, after.Offset)
					}
					last = m
				}
				if brokertest.Code(last) != protocol.CodeRevoked {
					t.Errorf("a live connection ended with %#v", last)
				}
			}
			t.Logf("%d connections ended within %v", each, time.Since(start))
			for how, conf := range map[string]*tls.Config{"anew": n.PKI.ClientConfig(cert, identity.ALPNClient), "with a ticket": ticket} {
				r := n.ConnectWith(t, conf)
				r.Send(&protocol.Hello{Versions: []uint64{1}})
				if m := r.Receive(); brokertest.Code(m) != protocol.CodeRevoked || r.ConnectionState().DidResume {
					t.Errorf("%s: got %#v, resumed %v", how, m, r.ConnectionState().DidResume)
				}
			}
			if m := n.Dial(t, "bystander").Ask(&protocol.WhoAmI{}); m.Kind() != protocol.KindIdentity {
				t.Errorf("others: %#v", m)
			}
		})
	}
}

// TestA05ShrinkWhileSubscribed takes rights away from live subscribers and publishers.
func TestA05ShrinkWhileSubscribed(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("c", "publish, subscribe", `">"`)})
	admin := n.Dial(t, "admin")
	for _, name := range []string{"a.open", "a.secret", "b"} {
		if m := admin.Ask(&protocol.TopicCreate{Name: name}); brokertest.Code(m) != 0 {
			t.Fatalf("%#v", m)
		}
	}
	c := n.Dial(t, "c")
	for i, pattern := range []string{"a.>", "b"} {
		if m := c.Ask(&protocol.Subscribe{Sub: uint64(i + 1), Patterns: []string{pattern}, CreditBytes: 1 << 30, CreditRecords: 1 << 30}); m.Kind() != protocol.KindSubscribed {
			t.Fatalf("%#v", m)
		}
	}
	n.Apply(t, brokertest.PolicyFor("c", "subscribe", `"a.>"`)+"    deny:\n      - {verbs: [subscribe], topics: [a.secret]}\n")
	want := map[string]bool{"denied a.secret of 1": false, "closed 2": false}
	for left := len(want); left > 0; left-- {
		e, ok := c.Receive().(*protocol.Event)
		if !ok {
			t.Fatal("no event")
		}
		switch {
		case e.Type == protocol.EventDenied && e.Sub == 1:
			want["denied "+e.Topic+" of 1"] = true
		case e.Type == protocol.EventSubClosed && e.Code == protocol.CodeDenied:
			want[fmt.Sprintf("closed %d", e.Sub)] = true
		}
	}
	for what, seen := range want {
		if !seen {
			t.Errorf("not told: %s", what)
		}
	}
	if m := c.Publish("b", 0, "x"); brokertest.Code(m) != protocol.CodeDenied {
		t.Errorf("publish after the change: %#v", m)
	}
	// What is allowed goes on; what is denied never comes.
	admin.Publish("a.secret", 0, "secret")
	admin.Publish("b", 0, "b")
	admin.Publish("a.open", 0, "open")
	d, ok := c.Receive().(*protocol.Deliver)
	if !ok || d.Topic != "a.open" {
		t.Errorf("delivered %#v", d)
	}
}

// TestT05RevokedAtOnce revokes many identities from several connections at once: each answer means that the entry is in
// force, whoever was served first.
func TestT05RevokedAtOnce(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	const admins = 4
	var conns [admins]*brokertest.Raw
	for i := range conns {
		conns[i] = n.Dial(t, "admin")
	}
	victims := make(map[string]*ca.Issued)
	for round := range lane.Pick(20, 100, 100) {
		var wg sync.WaitGroup
		for i, admin := range conns {
			victim := n.PKI.Client(fmt.Sprintf("victim-%d-%d", round, i))
			victims[victim.ID] = victim
			wg.Go(func() {
				if m := admin.Ask(&protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: victim.ID}}); m.Kind() != protocol.KindOK {
					t.Errorf("%#v", m)
				}
			})
		}
		wg.Wait()
		for id, victim := range victims {
			r := n.Connect(t, victim)
			if m := r.Receive(); brokertest.Code(m) != protocol.CodeRevoked {
				t.Fatalf("round %d: %s got %#v", round, id, m)
			}
		}
		clear(victims)
	}
}

// TestA06LostAdmin applies a policy in the moment in which another change takes admin away from the caller, before the
// broker has taken that change over: the right is decided by the version that is replaced.
func TestA06LostAdmin(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	mallory := n.Dial(t, "mallory") // brokertest.Policy makes everybody an admin
	release := broker.HoldSync(n.Broker)
	held := true
	defer func() {
		if held {
			release()
		}
	}()
	r, _, err := n.Group.Do(t.Context(), state.AppendSetPolicy(nil, &state.SetPolicy{Expect: 1, Document: []byte(brokertest.PolicyFor("c", "publish", `">"`)), By: "test"}))
	if err != nil || !r.Status.Done() {
		t.Fatal(r, err)
	}
	id := mallory.Send(&protocol.PolicyApply{Expect: r.Version, Force: true, Document: []byte(brokertest.Policy)})
	mallory.Ask(&protocol.Ping{Payload: id}) // the request before it was dispatched
	release()
	held = false
	if m := mallory.Receive(); brokertest.Code(m) != protocol.CodeDenied {
		t.Errorf("a policy applied without admin: %#v", m)
	}
	if v := n.Group.View().Policy().Version; v != r.Version {
		t.Errorf("the policy has version %d, want %d", v, r.Version)
	}
}

// TestT06Within revokes, in a bubble, a client that is idle, one that publishes as fast as it can, and two that were sent
// more than they read: all are closed within a second, also those to which nothing more can be said.
func TestT06Within(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(*broker.Limits) {})
		admin := dialRaw(t, n, network, "admin")
		cert := n.PKI.Client("victim")
		conns := map[string]*rawTLS{}
		for _, name := range []string{"idle", "publishing", "not reading", "not reading answers"} {
			conns[name] = dialRawCert(t, n, network, cert)
		}
		big := protocol.Publish{Topic: "t", Producer: [16]byte{1}, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: make([]byte, 512<<10)})}
		for range 4 {
			admin.Write(big.AppendFrame(nil, 1))
			if m := admin.frame(); m.Kind() != protocol.KindPublished {
				t.Fatalf("%#v", m)
			}
			big.Sequence++
		}
		conns["not reading"].Write((&protocol.Subscribe{Sub: 1, Patterns: []string{"t"}, Start: protocol.StartEarliest, CreditBytes: 1 << 40, CreditRecords: 1 << 40}).AppendFrame(nil, 1))
		flood := func(c *rawTLS, m protocol.Message) {
			frame := m.AppendFrame(nil, 1)
			for {
				if _, err := c.Write(frame); err != nil {
					return
				}
			}
		}
		go flood(conns["not reading answers"], &protocol.Ping{Payload: 1 << 60})
		go func() {
			m := &protocol.Publish{Topic: "busy", Producer: [16]byte{2}, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{})}
			for ; ; m.Sequence++ {
				if _, err := conns["publishing"].Write(m.AppendFrame(nil, m.Sequence+1)); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		start := time.Now()
		admin.Write((&protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: cert.ID}}).AppendFrame(nil, 1))
		if m := admin.frame(); m.Kind() != protocol.KindOK {
			t.Fatalf("%#v", m)
		}
		time.Sleep(time.Second - time.Since(start))
		synctest.Wait()
		for name, c := range conns {
			if _, err := c.plain.Write(make([]byte, 1)); err == nil {
				t.Errorf("%s: still open a second after the revocation", name)
			}
			c.plain.Close()
		}
		admin.plain.Close()
	})
}
