package broker_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestO03UnreadAnswers floods the broker with requests and reads no answer: the broker stops reading once so much waits,
// holds no more than that, and goes on when the answers are read. A small request may have a large answer.
func TestO03UnreadAnswers(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("reader", "subscribe", `">"`)})
	admin := n.Dial(t, "admin")
	for i := range 200 {
		if m := admin.Ask(&protocol.TopicCreate{Name: fmt.Sprint("a-topic-with-a-long-name-", i), Spec: protocol.TopicSpec{Partitions: 16}}); brokertest.Code(m) != 0 {
			t.Fatalf("%#v", m)
		}
	}
	for name, request := range map[string]protocol.Message{
		"pings":            &protocol.Ping{Payload: 1 << 60},
		"denied publishes": requestOf(t, protocol.KindPublish, "no.right"),
		"lists of topics":  &protocol.TopicList{},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.Dial(t, "reader")
			var block []byte
			frames := 0
			for ; len(block) < 256<<10; frames++ {
				block = request.AppendFrame(block, uint64(frames+1))
			}
			before := heap()
			sent := 0
			r.SetWriteDeadline(time.Now().Add(lane.Pick(time.Second, 4*time.Second, 4*time.Second))) // how long the flood lasts: when the broker stops reading, it is over
			for sent < 256<<20 {
				k, err := r.Write(block)
				sent += k
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			// Beyond the mark the answers of requests under way: 16 at once, each at most a page. Sockets hold a few MiB.
			if grown := int64(heap()) - int64(before); grown > 32<<20 {
				t.Errorf("the broker grew by %d MiB over %d MiB of requests", grown>>20, sent>>20)
			}
			for range 100 { // it goes on as soon as somebody reads
				if m := r.Receive(); m.Kind() == protocol.KindEvent {
					t.Fatalf("%#v", m)
				}
			}
			r.Conn.NetConn().(*net.TCPConn).SetLinger(0)
			r.Conn.NetConn().Close()
		})
	}
	if m := n.Dial(t, "reader").Ask(&protocol.Ping{Payload: 1}); m.Kind() != protocol.KindPong {
		t.Errorf("others: %#v", m)
	}
}

// TestDenialsAreBounded asks for many names without a right: an identity gets so many lines a second, whatever it asks
// for, and the next line says how many were kept back. Others are not concerned.
func TestDenialsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d broker.Denials
		lines := func(who string) (lines, skipped int) {
			for i := range 1000 {
				if k, ok := d.Allow(who, fmt.Sprint("publish t", i)); ok {
					lines++
					skipped += k
				}
			}
			return lines, skipped
		}
		if l, k := lines("mallory"); l != 20 || k != 0 {
			t.Errorf("%d lines, %d kept back; want 20", l, k)
		}
		if l, _ := lines("alice"); l != 20 {
			t.Errorf("another identity: %d lines", l)
		}
		time.Sleep(time.Second)
		if l, k := lines("mallory"); l != 20 || k != 980 {
			t.Errorf("a second later: %d lines and %d kept back, want 20 and 980", l, k)
		}
		time.Sleep(time.Second)
		for i := range 3 {
			if _, ok := d.Allow("bob", "publish t"); ok != (i == 0) {
				t.Errorf("the same reason, time %d: %v", i, ok)
			}
		}
	})
}
