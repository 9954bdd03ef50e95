package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// What a subscription makes of a broker that is not what it was when the connection
// broke. Each case changes the broker while the client is away; want is what the
// program then sees, in order: bodies and events.
func TestResume(t *testing.T) {
	for name, tt := range map[string]struct {
		topics []string
		change func(w *world)
		want   []string
	}{
		"nothing changed": {
			topics: []string{"shop.>"},
			want:   []string{"resumed", "after"},
		},
		"records were removed": {
			topics: []string{"shop.orders"},
			change: func(w *world) { w.broker.topics["shop.orders"].parts[0].low = 1; trim(w, 5) },
			want:   []string{"gap 2-5", "resumed", "after"},
		},
		"the topic was created anew": {
			topics: []string{"shop.orders"},
			change: func(w *world) { w.broker.createLocked("shop.orders", 1) },
			want:   []string{"recreated shop.orders", "assigned shop.orders/0", "resumed", "after"},
		},
		"another topic was born": {
			topics: []string{"shop.>"},
			change: func(w *world) { w.broker.createLocked("shop.more", 1) },
			want:   []string{"assigned shop.more/0", "resumed", "after"},
		},
		"a partition was born": {
			topics: []string{"shop.>"},
			change: func(w *world) {
				orders := w.broker.topics["shop.orders"]
				orders.parts = append(orders.parts, &fakePart{producers: make(map[[16]byte]*fakeProducer)})
			},
			want: []string{"assigned shop.orders/1", "resumed", "after"},
		},
		"one topic was deleted": {
			topics: []string{"shop.>"},
			change: func(w *world) { delete(w.broker.topics, "shop.other") },
			want:   []string{"recreated shop.other", "resumed", "after"},
		},
		"it is another cluster": {
			topics: []string{"shop.orders"},
			change: func(w *world) {
				w.broker.cluster = "another"
				w.broker.createLocked("shop.orders", 1)
			},
			want: []string{"recreated shop.orders", "assigned shop.orders/0", "resumed", "after"},
		},
		"the broker refuses the cursors": {
			topics: []string{"shop.orders"},
			change: func(w *world) {
				w.broker.createLocked("shop.orders", 1)
				w.refuseOnce(protocol.CodeRecreated)
			},
			want: []string{"recreated shop.orders", "assigned shop.orders/0", "resumed", "after"},
		},
		"the broker is busy at first": {
			topics: []string{"shop.orders"},
			change: func(w *world) { w.refuseOnce(protocol.CodeOverloaded) },
			want:   []string{"resumed", "after"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.broker.create("shop.orders", 1)
				w.broker.create("shop.other", 1)
				publisher := w.dial()
				publish := func(text string) {
					t.Helper()
					r := client.Record{Body: []byte(text)}
					if _, err := publisher.Publish(t.Context(), "shop.orders", r, client.ToPartition(0)); err != nil {
						t.Fatal(err)
					}
				}
				publish("one")
				publish("two")
				var seen []string
				opts := client.SubscribeOptions{Topics: tt.topics, From: client.Earliest(), OnEvent: func(e client.Event) { seen = append(seen, short(e)) }}
				sub := subscribe(t, w.dial(), opts)
				next := func() {
					t.Helper()
					m, err := sub.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					seen = append(seen, string(m.Body))
				}
				next()
				next()
				w.broker.mu.Lock()
				if tt.change != nil {
					tt.change(w)
				}
				w.broker.mu.Unlock()
				w.broker.cut()
				<-time.After(time.Minute) // everybody is back
				publish("after")
				next()
				if diff := cmp.Diff(append([]string{"one", "two"}, tt.want...), seen); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// trim removes records of shop.orders below offset n, which a later one then gets.
func trim(w *world, n int64) {
	p := w.broker.topics["shop.orders"].parts[0]
	p.low, p.next, p.batches = n, n, nil
}

// refuseOnce answers the next SUBSCRIBE with an error; call it with the broker's lock.
func (w *world) refuseOnce(code protocol.Code) {
	w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
		if _, ok := m.(*protocol.Subscribe); !ok {
			return false
		}
		w.broker.onFrame = nil
		c.reject(id, code, protocol.OutcomeNone)
		return true
	}
}

// short is an event in a word or two.
func short(e client.Event) string {
	switch e := e.(type) {
	case *client.GapEvent:
		return "gap " + string(rune('0'+e.From)) + "-" + string(rune('0'+e.To))
	case *client.RecreatedEvent:
		return "recreated " + e.Topic
	case *client.AssignedEvent:
		return "assigned " + e.Topic + "/" + string(rune('0'+e.Partition))
	case *client.ResumedEvent:
		return "resumed"
	}
	return e.String()
}

// A plain name that is gone when the client comes back ends the subscription.
func TestResumeTopicGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		sub := subscribe(t, w.dial(), client.SubscribeOptions{})
		w.broker.mu.Lock()
		delete(w.broker.topics, "orders")
		w.broker.mu.Unlock()
		w.broker.cut()
		if _, err := sub.Next(t.Context()); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// The broker may close a subscription because it is busy; it is opened again where it was.
func TestSubscriptionReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 3)
		sub := subscribe(t, c, client.SubscribeOptions{From: client.Earliest()})
		for range 3 {
			if _, err := sub.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.broker.event(&protocol.Event{Type: protocol.EventSubClosed, Sub: 1, Code: protocol.CodeOverloaded})
		<-time.After(time.Minute)
		if _, err := c.Publish(t.Context(), "orders", client.Record{Body: body(3)}); err != nil {
			t.Fatal(err)
		}
		if m, err := sub.Next(t.Context()); err != nil || string(m.Body) != string(body(3)) {
			t.Errorf("got %+v, %v", m, err)
		}
		if a := sub.Assignments(); len(a) != 1 || a[0].Topic != "orders" || a[0].Next != 4 {
			t.Errorf("assignments %+v", a)
		}
	})
}

// Metadata that cannot be had at the moment is asked for again.
func TestPublishBeforeQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		refused := 0
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			if _, ok := m.(*protocol.TopicGet); !ok || refused == 3 {
				return false
			}
			refused++
			fc.reject(id, protocol.CodeNoQuorum, protocol.OutcomeNone)
			return true
		}
		if _, err := c.Publish(t.Context(), "orders", client.Record{}); err != nil || refused != 3 {
			t.Errorf("after %d refusals: %v", refused, err)
		}
	})
}

// Every event says what happened in words that name the place.
func TestEventTexts(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		event client.Event
		want  string
	}{
		{&client.ConnectedEvent{Server: "a:1", Node: "n1", Resumed: true}, "connected to node n1 at a:1 (session resumed: true)"},
		{&client.DisconnectedEvent{Server: "a:1", Err: boom}, "connection to a:1 lost: boom"},
		{&client.ConnectFailedEvent{Err: boom, Retry: time.Second}, "reconnect failed, next attempt in 1s: boom"},
		{&client.ExpiringEvent{NotAfter: time.Unix(0, 0)}, "the connection's certificate ends at 1970-01-01T00:00:00Z"},
		{&client.ClosingEvent{Reason: "stopping"}, "the broker is closing the connection: stopping"},
		{&client.LeaderEvent{}, "there is no leader"},
		{&client.LeaderEvent{Server: "a:1"}, "the leader is at a:1"},
		{&client.PolicyEvent{Version: 3}, "the policy has version 3"},
		{&client.ReloadFailedEvent{Err: boom}, "certificate files not reloaded, the old ones stay in use: boom"},
		{&client.AssignedEvent{Topic: "orders", Partition: 2}, `partition 2 of "orders" joined the subscription`},
		{&client.ResumedEvent{}, "the subscription goes on after a reconnect"},
		{&client.RecreatedEvent{Topic: "orders"}, `topic "orders" was deleted or created anew; what was left of it will not come`},
		{&client.CutEvent{Topic: "orders", Text: "rule x"}, `the policy took topic "orders" out of the subscription: rule x`},
	} {
		if got := tt.event.String(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
		if err, ok := tt.event.(error); ok && err.Error() != tt.want {
			t.Errorf("error text %q", err)
		}
	}
	if err := error(&client.CutEvent{}); !errors.Is(err, client.ErrDenied) {
		t.Error("a cut topic is not a denial")
	}
}

func TestStartTexts(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	var got []string
	for _, s := range []client.Start{{}, client.Latest(), client.Earliest(), client.AtOffset(7), client.Since(time.Hour), client.At(at), client.Tail(5)} {
		got = append(got, s.String())
	}
	if want := "latest latest earliest offset 7 -1h0m0s 2026-05-04T03:02:01Z tail 5"; strings.Join(got, " ") != want {
		t.Errorf("got %s", got)
	}
}
