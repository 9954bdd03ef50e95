package broker_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// session is the bytes of a whole session: HELLO, and three publishes of one record.
func session(topicName string, producer byte) (stream []byte, ends []int) {
	stream = (&protocol.Hello{Versions: []uint64{protocol.Version}}).AppendFrame(nil, 1)
	ends = append(ends, len(stream))
	for i := range 3 {
		p := protocol.Publish{Topic: topicName, Producer: [16]byte{producer}, Sequence: uint64(i), Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: []byte("b")})}
		stream = p.AppendFrame(stream, uint64(i+2))
		ends = append(ends, len(stream))
	}
	return stream, ends
}

// TestP07Pieces sends one session whole, in single bytes, and cut at every byte: what was whole takes effect, what
// was not leaves nothing.
func TestP07Pieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := inBubble(t, func(*broker.Limits) {}) // half a frame may wait for 5 s, a disk may be slower
		cert := n.PKI.Client("c")
		expect := func(r *brokertest.Raw, publishes int) {
			t.Helper()
			if _, ok := r.Receive().(*protocol.Welcome); !ok {
				t.Fatal("no WELCOME")
			}
			for range publishes {
				if m := r.Receive(); m.Kind() != protocol.KindPublished {
					t.Fatalf("%#v", m)
				}
			}
		}
		stream, _ := session("pieces", 1)
		whole := n.Connect(t, cert)
		if _, err := whole.Write(stream); err != nil { // coalesced into one TLS record
			t.Fatal(err)
		}
		expect(whole, 3)
		stream, _ = session("pieces", 2)
		single := n.Connect(t, cert)
		for i := range stream {
			if _, err := single.Write(stream[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		expect(single, 3)

		records := int64(6)
		for cut := range stream {
			stream, ends := session("pieces", byte(10+cut))
			r := n.Connect(t, cert)
			if _, err := r.Write(stream[:cut]); err != nil {
				t.Fatal(err)
			}
			done, _ := slices.BinarySearch(ends, cut+1) // frames that are whole
			if done > 0 {
				expect(r, done-1)
				records += int64(done - 1)
			}
			r.CloseWrite()
			r.WaitEnd()
		}
		topicInfo, ok := n.Dial(t, "c").Ask(&protocol.TopicGet{Name: "pieces"}).(*protocol.Topic)
		if !ok || topicInfo.Info.Partitions[0].Next != records {
			t.Errorf("%+v, want %d records", topicInfo, records)
		}
	})
}

// TestA10DeniedIsDenied asks, without the right, for what is there and for what is not: code and text are the same
// but for the name, and so is the time it takes.
func TestA10DeniedIsDenied(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("nobody", "publish", "elsewhere")})
	if m := n.Dial(t, "admin").Ask(&protocol.TopicCreate{Name: "present"}); brokertest.Code(m) != 0 {
		t.Fatalf("%#v", m)
	}
	r := n.Dial(t, "stranger")
	samples := lane.Pick(200, 10_000, 10_000)
	for _, k := range []protocol.Kind{protocol.KindPublish, protocol.KindSubscribe, protocol.KindTopicGet, protocol.KindTopicAlter, protocol.KindTopicDelete} {
		for try := 1; ; try++ { // a busy machine may tell one apart once; a broker would each time
			ratio := denials(t, r, k, samples)
			if lane.Current() == 1 || ratio > 0.8 && ratio < 1.25 {
				break
			}
			if try == 3 {
				t.Errorf("%v: the time tells whether the topic exists: ratio %.2f", k, ratio)
				break
			}
		}
	}
}

// denials asks for both, so many times in turn, and compares the median times.
func denials(t *testing.T, r *brokertest.Raw, k protocol.Kind, samples int) (ratio float64) {
	t.Helper()
	var took [2][]time.Duration
	var text [2]string
	for range samples {
		for i, name := range []string{"present", "missing"} {
			request := requestOf(t, k, name)
			start := time.Now()
			e, ok := r.Ask(request).(*protocol.Error)
			took[i] = append(took[i], time.Since(start))
			if !ok || e.Code != protocol.CodeDenied {
				t.Fatalf("%v %s: %#v", k, name, e)
			}
			text[i] = strings.ReplaceAll(e.Text, name, "NAME")
		}
	}
	if text[0] != text[1] {
		t.Errorf("%v: %q and %q", k, text[0], text[1])
	}
	for i := range took {
		slices.Sort(took[i])
	}
	ratio = float64(took[0][samples/2]) / float64(took[1][samples/2])
	t.Logf("%v: medians %v and %v, ratio %.3f", k, took[0][samples/2], took[1][samples/2], ratio)
	return ratio
}

// TestT16Expiry keeps a connection whose certificate ends: it is warned, and closed then.
func TestT16Expiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := inBubble(t, func(*broker.Limits) {})
		cert := n.PKI.Must(ca.Request{Name: "short", TTL: 3 * time.Second})
		r := n.Connect(t, cert)
		r.Hello()
		if e, ok := r.Receive().(*protocol.Event); !ok || e.Type != protocol.EventExpiring || int64(e.Value) != cert.Leaf.NotAfter.UnixMilli() {
			t.Errorf("no warning: %#v", e)
		}
		if last := r.WaitEnd(); brokertest.Code(last) != protocol.CodeExpired {
			t.Errorf("ended with %#v", last)
		}
		if late := time.Since(cert.Leaf.NotAfter); late < 0 || late > 5*time.Second {
			t.Errorf("closed %v after the certificate's end", late)
		}
	})
}
