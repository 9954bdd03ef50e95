package bench_test

import (
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// double speaks like a broker over real TLS and keeps records in memory. It acknowledges everything, and stores what spoil makes
// of it.
type double struct {
	t      *testing.T
	pki    *identitytest.PKI
	addr   string
	tls    *tls.Config
	listen net.Listener
	all    sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	spoil func(body []byte) [][]byte // what is stored in the place of a record
	parts map[string]*doublePart
	conns map[*doubleConn]bool
}

// doublePart is a topic of one partition.
type doublePart struct {
	next     int64
	acked    int64
	stored   [][]byte // batches
	offsets  []int64  // behind each
	producer map[[16]byte]uint64
}

type doubleConn struct {
	*double
	conn net.Conn
	subs map[uint64]*doubleSub
}

type doubleSub struct {
	pattern topic.Pattern
	sent    map[string]int // batches, by topic
}

func newDouble(t *testing.T, spoil func([]byte) [][]byte) *double {
	t.Helper()
	pki := identitytest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &double{t: t, pki: pki, addr: l.Addr().String(), tls: pki.Source("n1").ServerConfig(identity.ClientSide), listen: l, spoil: spoil, parts: map[string]*doublePart{}, conns: map[*doubleConn]bool{}}
	b.all.Go(b.acceptLoop)
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for c := range b.conns {
			c.conn.Close()
		}
		b.mu.Unlock()
		b.all.Wait()
	})
	return b
}

// target is the double as what is measured.
func (b *double) target() *bench.Target {
	f := b.pki.ClientFiles("bench")
	return &bench.Target{Name: "double", Client: client.Options{Servers: []string{b.addr}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, DialTimeout: time.Minute}, SameMachine: true, OneProcess: true}
}

func (b *double) acceptLoop() {
	for {
		raw, err := b.listen.Accept()
		if err != nil {
			return
		}
		c := &doubleConn{double: b, conn: tls.Server(raw, b.tls), subs: map[uint64]*doubleSub{}}
		b.mu.Lock()
		b.conns[c] = true
		b.mu.Unlock()
		b.all.Go(c.readLoop)
	}
}

func (c *doubleConn) readLoop() {
	defer func() {
		c.mu.Lock()
		delete(c.conns, c)
		c.mu.Unlock()
		c.conn.Close()
	}()
	for frames := protocol.NewFrameReader(c.conn, 4<<20); ; {
		body, err := frames.Next()
		if err != nil {
			return
		}
		id, m, err := protocol.Decode(body)
		if err != nil {
			c.t.Errorf("the double: %v", err)
			return
		}
		c.mu.Lock()
		c.onMessage(id, m)
		c.mu.Unlock()
	}
}

// send writes a frame, with mu held: the windows of the tests are small.
func (c *doubleConn) send(id uint64, m protocol.Message) {
	_, _ = c.conn.Write(m.AppendFrame(nil, id)) // its reader notices
}

func (c *doubleConn) onMessage(id uint64, m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Hello:
		c.send(id, &protocol.Welcome{Version: 1, Node: "double", Cluster: "double", Broker: "double", Identity: "spiffe://test.example/client/bench", Limits: protocol.DefaultLimits()})
	case *protocol.Ping:
		c.send(id, &protocol.Pong{Payload: m.Payload})
	case *protocol.TopicCreate:
		c.parts[m.Name] = &doublePart{producer: map[[16]byte]uint64{}}
		c.describe(id, m.Name)
	case *protocol.TopicGet:
		c.describe(id, m.Name)
	case *protocol.Publish:
		c.publish(id, m)
	case *protocol.Subscribe:
		c.subscribe(id, m)
	case *protocol.Unsubscribe:
		delete(c.subs, m.Sub)
		c.send(id, &protocol.OK{})
	case *protocol.TopicDelete:
		c.send(id, &protocol.OK{})
	case *protocol.Credit, *protocol.Pong: // it sends without
	default:
		c.send(id, &protocol.Error{Code: protocol.CodeDenied, Outcome: protocol.OutcomeRejected, Text: "says the double"})
	}
}

func (c *doubleConn) describe(id uint64, name string) {
	p := c.parts[name]
	c.send(id, &protocol.Topic{Info: protocol.TopicInfo{Name: name, Incarnation: 1, Spec: protocol.TopicSpec{Partitions: 1}, Partitions: []protocol.PartitionInfo{{Next: p.next}}}})
}

func (c *doubleConn) publish(id uint64, m *protocol.Publish) {
	p := c.parts[m.Topic]
	if want := p.producer[m.Producer]; m.Sequence != want {
		c.t.Errorf("the double: sequence %d, want %d", m.Sequence, want)
	}
	p.producer[m.Producer] += uint64(m.Count)
	var kept [][]byte
	var r batch.Record
	for cur := batch.Records(m.Records); cur.Next(&r); {
		kept = append(kept, c.spoil(slices.Clone(r.Body))...)
	}
	p.keep(m, kept)
	c.send(id, &protocol.Published{Incarnation: 1, Offset: p.acked, TimeMs: time.Now().UnixMilli()})
	p.acked += int64(m.Count)
	for other := range c.conns {
		for sub := range other.subs {
			other.pump(sub)
		}
	}
}

// keep stores records as one batch.
func (p *doublePart) keep(m *protocol.Publish, bodies [][]byte) {
	if len(bodies) == 0 {
		return
	}
	var blob []byte
	for _, body := range bodies {
		blob = batch.AppendRecord(blob, &batch.Record{Body: body})
	}
	meta := batch.Meta{Base: topic.Offset(p.next), Count: uint32(len(bodies)), TimeMs: time.Now().UnixMilli(), Publisher: "spiffe://test.example/client/bench", Producer: m.Producer, Epoch: m.Epoch, Sequence: m.Sequence}
	p.next += int64(len(bodies))
	p.stored, p.offsets = append(p.stored, batch.Append(nil, &meta, blob)), append(p.offsets, p.next)
}

func (c *doubleConn) subscribe(id uint64, m *protocol.Subscribe) {
	pattern, err := topic.ParsePattern(m.Patterns[0])
	if err != nil {
		c.t.Error(err)
	}
	answer := &protocol.Subscribed{}
	for _, name := range slices.Sorted(maps.Keys(c.parts)) {
		if pattern.Match(topic.Name(name)) {
			answer.Assignments = append(answer.Assignments, protocol.Assignment{Topic: name, Incarnation: 1, End: c.parts[name].next})
		}
	}
	c.subs[m.Sub] = &doubleSub{pattern, map[string]int{}}
	c.send(id, answer)
	c.pump(m.Sub)
}

// pump sends everything that was not sent.
func (c *doubleConn) pump(sub uint64) {
	s := c.subs[sub]
	for name, p := range c.parts {
		if !s.pattern.Match(topic.Name(name)) {
			continue
		}
		for n := s.sent[name]; n < len(p.stored); n++ {
			first := int64(0)
			if n > 0 {
				first = p.offsets[n-1]
			}
			c.send(0, &protocol.Deliver{Sub: sub, Topic: name, Incarnation: 1, Next: p.offsets[n], End: p.next, Records: uint32(p.offsets[n] - first), Batches: p.stored[n]})
		}
		s.sent[name] = len(p.stored)
	}
}

// faults are what a broker might do to record number 100, by name. Each is for one run.
var faults = map[string]func() func(body []byte) [][]byte{
	"nothing": func() func([]byte) [][]byte { return func(body []byte) [][]byte { return [][]byte{body} } },
	"lost": func() func([]byte) [][]byte {
		return onRecord100(func([]byte) [][]byte { return nil })
	},
	"doubled": func() func([]byte) [][]byte {
		return onRecord100(func(body []byte) [][]byte { return [][]byte{body, body} })
	},
	"out of order": func() func([]byte) [][]byte {
		var held []byte
		late := onRecord100(func(body []byte) [][]byte {
			held = body
			return nil
		})
		return func(body []byte) [][]byte {
			out := late(body)
			if held != nil && len(out) > 0 {
				out, held = append(out, held), nil
			}
			return out
		}
	},
	"changed": func() func([]byte) [][]byte {
		return onRecord100(func(body []byte) [][]byte {
			body[len(body)-1] ^= 1
			return [][]byte{body}
		})
	},
	"changed in its head": func() func([]byte) [][]byte {
		return onRecord100(func(body []byte) [][]byte {
			body[20] ^= 1
			return [][]byte{body}
		})
	},
	"cut": func() func([]byte) [][]byte {
		return onRecord100(func(body []byte) [][]byte { return [][]byte{body[:10]} })
	},
	"of somebody else": func() func([]byte) [][]byte {
		return onRecord100(func(body []byte) [][]byte { return [][]byte{body, []byte(strings.Repeat("x", 256))} })
	},
}

// onRecord100 does something to one record and nothing to the others.
func onRecord100(do func([]byte) [][]byte) func([]byte) [][]byte {
	n := 0
	return func(body []byte) [][]byte {
		if n++; n == 100 {
			return do(body)
		}
		return [][]byte{body}
	}
}
