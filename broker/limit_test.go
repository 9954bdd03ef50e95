package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
)

// limited starts a node whose limits are changed.
func limited(t *testing.T, change func(*broker.Limits)) *brokertest.Node {
	l := broker.DefaultLimits()
	change(&l)
	return brokertest.Start(t, brokertest.Options{Limits: l})
}

// reached checks that an answer names the limit and its value, and that the limit's metric counted it.
func reached(t *testing.T, n *brokertest.Node, m protocol.Message, code protocol.Code, key string, words ...string) {
	t.Helper()
	text := fmt.Sprintf("%+v", m)
	if brokertest.Code(m) != code {
		t.Errorf("got %s, want %v", text, code)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("got %s, which does not say %q", text, w)
		}
	}
	if counted(t, n, "waxwing_limit_reached_total", key) == 0 {
		t.Errorf("waxwing_limit_reached_total{limit=%q} did not count", key)
	}
}

// counted is a counter with one label.
func counted(t *testing.T, n *brokertest.Node, name, label string) float64 {
	t.Helper()
	families, err := n.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestO05ConnectionsPerIdentity(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.ConnectionsPerIdentity = 3 })
	cert := n.PKI.Client("many")
	var open []*brokertest.Raw
	for range 3 {
		r := n.Connect(t, cert)
		r.Hello()
		open = append(open, r)
	}
	r := n.Connect(t, cert)
	r.Send(&protocol.Hello{Versions: []uint64{1}})
	reached(t, n, r.Receive(), protocol.CodeLimit, "connections_per_identity", "limits.connections_per_identity", "3")
	n.Dial(t, "another") // others are not concerned
	open[0].Close()
	for { // the place is free once the broker has seen the end
		r := n.Connect(t, cert)
		r.Send(&protocol.Hello{Versions: []uint64{1}})
		if _, ok := r.Receive().(*protocol.Welcome); ok {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the place was never given back")
		}
	}
}

// TestO05ConnectsPerSecond opens and closes connections faster than one identity may; others are not concerned.
func TestO05ConnectsPerSecond(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.ConnectsPerSecond = 2 })
	cert := n.PKI.Client("hasty")
	for t.Context().Err() == nil {
		r := n.Connect(t, cert)
		r.Send(&protocol.Hello{Versions: []uint64{1}})
		answer := r.Receive()
		r.Close()
		if _, ok := answer.(*protocol.Welcome); ok {
			continue
		}
		reached(t, n, answer, protocol.CodeLimit, "connects_per_second", "limits.connects_per_second", "2")
		break
	}
	n.Dial(t, "another")
}

// TestAccountsAreForgotten: an identity costs memory while it is connected, and until its pace is of no account.
func TestAccountsAreForgotten(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.ConnectsPerSecond = 2 })
	r := n.Dial(t, "c")
	later := time.Now().Add(time.Hour)
	if left := broker.SweepAccounts(n.Broker, later); left != 1 {
		t.Fatalf("%d accounts are left beside a connection", left)
	}
	r.Close()
	for broker.SweepAccounts(n.Broker, later) != 0 { // the broker has not seen the end yet
		if t.Context().Err() != nil {
			t.Fatal("the account was never forgotten")
		}
	}
	cert := n.PKI.Client("hasty")
	for range 2 {
		r := n.Connect(t, cert)
		r.Hello()
		r.Close()
	}
	if left := broker.SweepAccounts(n.Broker, time.Now().Add(-time.Hour)); left != 1 {
		t.Errorf("%d accounts are left of one whose pace still counts", left)
	}
}

func TestO05Connections(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.Connections = 2 })
	n.Dial(t, "a")
	n.Dial(t, "b")
	r := n.Connect(t, n.PKI.Client("c"))
	r.Send(&protocol.Hello{Versions: []uint64{1}})
	reached(t, n, r.Receive(), protocol.CodeLimit, "connections", "limits.connections", "2")
}

func TestO05Subscriptions(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.Subscriptions, l.PartitionsPerSubscription = 2, 3 })
	r := n.Dial(t, "c")
	for i, partitions := range []uint32{3, 1} {
		if m := r.Ask(&protocol.TopicCreate{Name: fmt.Sprint("t", i), Spec: protocol.TopicSpec{Partitions: partitions}}); brokertest.Code(m) != 0 {
			t.Fatalf("%#v", m)
		}
	}
	reached(t, n, r.Ask(&protocol.Subscribe{Sub: 9, Patterns: []string{">"}}), protocol.CodeLimit, "partitions_per_subscription", "limits.partitions_per_subscription", "3")
	for i := range 2 {
		if m := r.Ask(&protocol.Subscribe{Sub: uint64(i), Patterns: []string{"t0"}}); m.Kind() != protocol.KindSubscribed {
			t.Fatalf("%#v", m)
		}
	}
	reached(t, n, r.Ask(&protocol.Subscribe{Sub: 2, Patterns: []string{"t0"}}), protocol.CodeLimit, "subscriptions", "limits.subscriptions", "2")
	r.Ask(&protocol.Unsubscribe{Sub: 0})
	if m := r.Ask(&protocol.Subscribe{Sub: 2, Patterns: []string{"t0"}}); m.Kind() != protocol.KindSubscribed {
		t.Errorf("after one was closed: %#v", m)
	}
}

func TestO05Topics(t *testing.T) {
	n := limited(t, func(l *broker.Limits) { l.Topics, l.Partitions = 2, 5 })
	r := n.Dial(t, "c")
	r.Ask(&protocol.TopicCreate{Name: "a"})
	reached(t, n, r.Ask(&protocol.TopicCreate{Name: "b", Spec: protocol.TopicSpec{Partitions: 5}}), protocol.CodeLimit, "partitions", "5 partitions")
	r.Ask(&protocol.TopicCreate{Name: "b"})
	reached(t, n, r.Ask(&protocol.TopicAlter{Name: "b", Mask: protocol.AlterPartitions, Spec: protocol.TopicSpec{Partitions: 5}}), protocol.CodeLimit, "partitions", "5 partitions")
	reached(t, n, r.Ask(&protocol.TopicCreate{Name: "c"}), protocol.CodeLimit, "topics", "2 topics")
	reached(t, n, r.Publish("d", 0, "x"), protocol.CodeLimit, "topics", "2 topics")
}

// TestO05InFlight sends one byte more than an identity may have on its way.
func TestO05InFlight(t *testing.T) {
	n := limited(t, func(l *broker.Limits) {
		l.BatchBytes, l.RecordBytes, l.WindowBytes, l.InFlightBytes = 1000, 1000, 1000, 1000
	})
	r := n.Dial(t, "c")
	if m := r.Publish("t", 0, strings.Repeat("x", 100)); m.Kind() != protocol.KindPublished {
		t.Fatalf("%#v", m)
	}
	reached(t, n, r.Publish("t", 1, strings.Repeat("x", 990)), protocol.CodeOverloaded, "in_flight_bytes", "limits.in_flight_bytes", "1000")
}

// TestP09RecordLimits publishes records at and just beyond each limit.
func TestP09RecordLimits(t *testing.T) {
	n := limited(t, func(l *broker.Limits) {
		l.RecordBytes, l.BatchBytes, l.KeyBytes, l.HeaderBytes, l.HeaderCount = 4000, 8000, 10, 20, 2
	})
	r := n.Dial(t, "c")
	sequence := uint64(0)
	publish := func(records ...batch.Record) protocol.Message {
		var blob []byte
		for i := range records {
			blob = batch.AppendRecord(blob, &records[i])
		}
		m := r.Ask(&protocol.Publish{Topic: "t", Sequence: sequence, Count: uint32(len(records)), Records: blob})
		if m.Kind() == protocol.KindPublished {
			sequence += uint64(len(records))
		}
		return m
	}
	body := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for name, c := range map[string]struct {
		records []batch.Record
		what    string // "" = accepted
		key     string // of the limit
	}{
		"key at":        {[]batch.Record{{Key: body(10)}}, "", ""},
		"key beyond":    {[]batch.Record{{Key: body(11)}}, "key bytes", "key_bytes"},
		"headers at":    {[]batch.Record{{Headers: []batch.Header{{Name: "aaaaa", Value: "bbbbb"}, {Name: "ccccc", Value: "ddddd"}}}}, "", ""},
		"header bytes":  {[]batch.Record{{Headers: []batch.Header{{Name: "aaaaa", Value: "bbbbb"}, {Name: "ccccc", Value: "dddddd"}}}}, "header bytes", "header_bytes"},
		"header count":  {[]batch.Record{{Headers: []batch.Header{{Name: "a"}, {Name: "b"}, {Name: "c"}}}}, "headers", "header_count"},
		"record at":     {[]batch.Record{{Body: body(4000 - 1 - 1 - 1 - 3 - 1)}}, "", ""},
		"record beyond": {[]batch.Record{{Body: body(4000 - 1 - 1 - 1 - 3)}}, "record bytes", "record_bytes"},
		"batch beyond":  {[]batch.Record{{Body: body(3900)}, {Body: body(3900)}, {Body: body(300)}}, "batch bytes", "batch_bytes"},
	} {
		m := publish(c.records...)
		if c.what == "" {
			if m.Kind() != protocol.KindPublished {
				t.Errorf("%s: %#v", name, m)
			}
			continue
		}
		reached(t, n, m, protocol.CodeTooLarge, c.key, c.what)
		if e, ok := m.(*protocol.Error); !ok || e.Outcome != protocol.OutcomeRejected {
			t.Errorf("%s: %#v is no rejection", name, m)
		}
	}
	for name, m := range map[string]*protocol.Publish{
		"count lies":   {Topic: "t", Sequence: sequence, Count: 2, Records: batch.AppendRecord(nil, &batch.Record{})},
		"no record":    {Topic: "t", Sequence: sequence},
		"no records":   {Topic: "t", Sequence: sequence, Count: 1, Records: []byte{0xc0}},
		"bad topic":    {Topic: "t..u", Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{})},
		"wildcard":     {Topic: "t.*", Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{})},
		"header twice": {Topic: "t", Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Headers: []batch.Header{{Name: "a"}, {Name: "a"}}})},
		"bad UTF-8":    {Topic: "t", Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Headers: []batch.Header{{Name: "\xff"}}})},
	} {
		if m := r.Ask(m); brokertest.Code(m) != protocol.CodeInvalid {
			t.Errorf("%s: %#v", name, m)
		}
	}
	if m := r.Publish("t", 0, "y"); m.Kind() != protocol.KindPublished { // producer 1: nothing above took a sequence of it
		t.Errorf("%#v", m)
	}
}

// TestO05BatchRecords publishes as many records in one batch as the format has numbers for, and one more.
func TestO05BatchRecords(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	r := n.Dial(t, "c")
	empty := batch.AppendRecord(nil, &batch.Record{})
	publish := func(count int) protocol.Message {
		return r.Ask(&protocol.Publish{Topic: "t", Count: uint32(count), Records: bytes.Repeat(empty, count)})
	}
	reached(t, n, publish(65_536), protocol.CodeTooLarge, "batch_records", "batch records", "65535")
	if m := publish(65_535); m.Kind() != protocol.KindPublished {
		t.Errorf("%#v", m)
	}
}

// TestO05Patterns subscribes to as many patterns as one subscription may have, and to one more.
func TestO05Patterns(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	r := n.Dial(t, "c")
	patterns := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("t%d.>", i))
		}
		return list
	}
	if m := r.Ask(&protocol.Subscribe{Sub: 1, Patterns: patterns(64)}); m.Kind() != protocol.KindSubscribed {
		t.Errorf("%#v", m)
	}
	if m := r.Ask(&protocol.Subscribe{Sub: 2}); brokertest.Code(m) != protocol.CodeInvalid {
		t.Errorf("none: %#v", m)
	}
	r.Send(&protocol.Subscribe{Sub: 3, Patterns: patterns(65)})
	if last := r.WaitEnd(); brokertest.Code(last) != protocol.CodeMalformed { // a list that PROTOCOL.md does not know
		t.Errorf("one more: %#v", last)
	}
}

// TestO05Window sends many times the window at once: the broker reads no faster than it answers, so that the identity's
// share, which is two windows, is never used up.
func TestO05Window(t *testing.T) {
	const window, size, publishes = 64 << 10, 30 << 10, 400
	n := limited(t, func(l *broker.Limits) {
		l.BatchBytes, l.RecordBytes, l.WindowBytes, l.InFlightBytes = window, window, window, 2*window
	})
	r := n.Dial(t, "c")
	if m := r.Publish("t", 0, "x"); m.Kind() != protocol.KindPublished {
		t.Fatalf("%#v", m)
	}
	blob := batch.AppendRecord(nil, &batch.Record{Body: bytes.Repeat([]byte("x"), size)})
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := range publishes {
			m := protocol.Publish{Topic: "t", Producer: [16]byte{1}, Sequence: uint64(1 + i), Count: 1, Records: blob}
			if _, err = r.Write(m.AppendFrame(nil, uint64(1000+i))); err != nil {
				break
			}
		}
		sent <- err
	}()
	for i := range publishes {
		if m := r.Receive(); m.Kind() != protocol.KindPublished {
			t.Fatalf("publish %d: %#v", i, m)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestO05Requests keeps as many requests waiting as a connection may have under way: the broker reads the next frame only
// when one of them is answered.
func TestO05Requests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := inBubble(t, func(*broker.Limits) {})
		for name, c := range map[string]struct {
			waiting int
			first   protocol.Kind // of the frames that come back
			after   time.Duration
		}{"one less": {16, protocol.KindPong, 0}, "one more": {17, protocol.KindError, 5 * time.Second}} {
			r := n.Dial(t, "c")
			start := time.Now()
			for range c.waiting {
				r.Send(&protocol.TopicList{After: 1 << 40}) // an index that is far away
			}
			r.Send(&protocol.Ping{Payload: 1})
			if m := r.Receive(); m.Kind() != c.first || time.Since(start) != c.after {
				t.Errorf("%s: first came %#v after %v", name, m, time.Since(start))
			}
		}
	})
}

// TestLimitsAreChecked refuses limits that make no sense, all at once.
func TestLimitsAreChecked(t *testing.T) {
	l := broker.DefaultLimits()
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	l.Topics, l.Subscriptions, l.WindowBytes = 0, -1, 1
	err := l.Check()
	for _, key := range []string{"limits.topics", "limits.subscriptions", "window_bytes"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// TestListsComeInPages fills both lists beyond one answer.
func TestListsComeInPages(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dial(t, n, "admin")
	r := n.Dial(t, "admin")
	const entries = 1100
	for i := range entries {
		r.Send(&protocol.TopicCreate{Name: fmt.Sprint("t", i)})
		r.Send(&protocol.Revoke{Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: fmt.Sprint("spiffe://test.example/client/gone-", i)}})
		for range 2 {
			if m := r.Receive(); brokertest.Code(m) != 0 {
				t.Fatalf("%#v", m)
			}
		}
	}
	list, err := c.Revocations().List(t.Context())
	if err != nil || len(list) != entries {
		t.Errorf("%d revocations, %v", len(list), err)
	}
	topics := 0
	for _, err := range c.Topics().List(t.Context(), ">") {
		if err != nil {
			t.Fatal(err)
		}
		topics++
	}
	if topics != entries {
		t.Errorf("%d topics", topics)
	}
}
