package broker_test

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
)

// publishOne publishes a record and fails the test if it is not acknowledged.
func publishOne(t *testing.T, c *brokertest.Raw, topicName string, body int) {
	t.Helper()
	m := c.Ask(&protocol.Publish{Topic: topicName, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: make([]byte, body)}), Producer: [16]byte{byte(body), byte(body >> 8)}})
	if brokertest.Code(m) != 0 {
		t.Fatalf("%#v", m)
	}
}

func openSnapshot(t *testing.T, c *brokertest.Raw) *protocol.Snapshot {
	t.Helper()
	m := c.Ask(&protocol.SnapshotOpen{})
	s, ok := m.(*protocol.Snapshot)
	if !ok {
		t.Fatalf("%#v", m)
	}
	return s
}

// TestSnapshotStream reads a snapshot in small parts: it is whole and good, of the index that was told, and its token is gone
// afterwards.
func TestSnapshotStream(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := n.Dial(t, "ops")
	for i := range 20 {
		publishOne(t, c, "orders", 1000+i)
	}
	s := openSnapshot(t, c)
	publishOne(t, c, "orders", 5)
	if s.Records != 20 || s.Bytes < 20_000 {
		t.Errorf("%+v", s)
	}
	var stream bytes.Buffer
	for last := false; !last; {
		m, ok := c.Ask(&protocol.SnapshotRead{Token: s.Token, Offset: uint64(stream.Len()), Max: 700}).(*protocol.SnapshotData)
		if !ok || len(m.Data) > 700 {
			t.Fatalf("%#v", m)
		}
		stream.Write(m.Data)
		last = m.Last
	}
	report, err := cluster.VerifySnapshot(t.Context(), &stream)
	if err != nil || report.Head.Index != s.Index || report.Contents.Records != 20 || report.Topics != 1 || report.Policy == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if m := c.Ask(&protocol.SnapshotRead{Token: s.Token, Max: 1}); brokertest.Code(m) != protocol.CodeNotFound {
		t.Errorf("read of a snapshot that was read: %#v", m)
	}
	if m := c.Ask(&protocol.SnapshotClose{Token: s.Token}); m.Kind() != protocol.KindOK {
		t.Errorf("%#v", m)
	}
}

// TestSnapshotRules: an offset that is not the next, another connection's token, the limit, and what gives a place back.
func TestSnapshotRules(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c, other := n.Dial(t, "ops"), n.Dial(t, "ops")
	first := openSnapshot(t, c)
	for _, r := range []protocol.SnapshotRead{{Token: first.Token, Offset: 1, Max: 10}, {Token: first.Token, Max: 0}} {
		if m := c.Ask(&r); brokertest.Code(m) != protocol.CodeInvalid {
			t.Errorf("%+v: %#v", r, m)
		}
	}
	if m := other.Ask(&protocol.SnapshotRead{Token: first.Token, Max: 10}); brokertest.Code(m) != protocol.CodeNotFound {
		t.Errorf("another connection reads it: %#v", m)
	}
	openSnapshot(t, other)
	if m := c.Ask(&protocol.SnapshotOpen{}); brokertest.Code(m) != protocol.CodeLimit {
		t.Errorf("a third one: %#v", m)
	}
	c.Ask(&protocol.SnapshotClose{Token: first.Token})
	second := openSnapshot(t, c)
	other.Close()
	for { // the connection's end gives its place back, a moment later
		if m, ok := c.Ask(&protocol.SnapshotOpen{}).(*protocol.Snapshot); ok {
			if m.Token == second.Token || m.Token == first.Token {
				t.Errorf("token %d again", m.Token)
			}
			return
		}
	}
}

// TestSnapshotLosesRight: a policy that takes the right away ends the reading at once.
func TestSnapshotLosesRight(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("ops", "publish", "\">\"") + "      - {verbs: [admin]}\n"})
	c := n.Dial(t, "ops")
	s := openSnapshot(t, c)
	if m := c.Ask(&protocol.SnapshotRead{Token: s.Token, Max: 10}); m.Kind() != protocol.KindSnapshotData {
		t.Fatalf("%#v", m)
	}
	n.Apply(t, brokertest.PolicyFor("ops", "publish", "\">\""))
	if m := c.Ask(&protocol.SnapshotRead{Token: s.Token, Offset: 10, Max: 10}); brokertest.Code(m) != protocol.CodeDenied {
		t.Errorf("read without the right: %#v", m)
	}
}

// TestSnapshotIdle: a snapshot that nobody reads for a minute ends, and holds no disk space any more; one that is read lives on.
func TestSnapshotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		n := brokertest.Start(t, brokertest.Options{Listen: func() (net.Listener, error) { return network.Listen("localhost:7420") }, Dial: network.DialContext})
		c := n.Dial(t, "ops")
		read, idle := openSnapshot(t, c), openSnapshot(t, c)
		for i := range 3 {
			time.Sleep(50 * time.Second)
			if m := c.Ask(&protocol.SnapshotRead{Token: read.Token, Offset: uint64(i), Max: 1}); m.Kind() != protocol.KindSnapshotData {
				t.Fatalf("%#v", m)
			}
		}
		if m := c.Ask(&protocol.SnapshotRead{Token: idle.Token, Max: 1}); brokertest.Code(m) != protocol.CodeNotFound {
			t.Errorf("nobody read it for 150 s: %#v", m)
		}
		openSnapshot(t, c) // its place is free
		c.Close()
		n.Close()
	})
}
