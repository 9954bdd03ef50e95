package client_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/topic"
)

// fakeBroker speaks real frames over real TLS and keeps topics in memory by the rules
// of the producer and of credit. Hooks let a test answer in its place.
type fakeBroker struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	wg       sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	limits     protocol.Limits
	topics     map[string]*fakeTopic
	born       uint64
	conns      map[*fakeConn]bool
	hellos     int
	publishes  int
	duplicates int
	autoCreate bool
	refuse     *protocol.Refused
	cluster    string
	// onFrame may answer a frame itself; true = done. Called with mu held.
	onFrame func(c *fakeConn, id uint64, m protocol.Message) bool
}

type fakeTopic struct {
	name  string
	inc   uint64
	parts []*fakePart
}

type fakePart struct {
	next      int64
	low       int64
	batches   []fakeBatch
	producers map[[16]byte]*fakeProducer
}

type fakeBatch struct {
	base  int64
	count uint32
	raw   []byte
}

type fakeProducer struct {
	epoch, next uint64
	seen        map[uint64]protocol.Published // by sequence
}

type fakeConn struct {
	b    *fakeBroker
	conn net.Conn
	out  chan []byte
	done chan struct{}
	subs map[uint64]*fakeSub // guarded by fakeBroker.mu
}

type fakeSub struct {
	id      uint64
	bytes   int64
	records int64
	cursors []*fakeCursor
}

type fakeCursor struct {
	topic *fakeTopic
	num   uint32
	next  int64
}

const fakeAddr = "broker.test:7420"

func startFake(t testing.TB, network *memnet.Network, cfg *tls.Config) *fakeBroker {
	l, err := network.Listen(fakeAddr)
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{
		t: t, listener: l, tls: cfg, limits: protocol.DefaultLimits(),
		topics: make(map[string]*fakeTopic), conns: make(map[*fakeConn]bool), cluster: "test",
	}
	b.wg.Go(b.acceptLoop)
	t.Cleanup(b.stop)
	return b
}

func (b *fakeBroker) stop() {
	b.listener.Close()
	b.cut()
	b.wg.Wait()
}

// cut breaks every connection.
func (b *fakeBroker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.conn.Close()
	}
}

func (b *fakeBroker) acceptLoop() {
	for {
		raw, err := b.listener.Accept()
		if err != nil {
			return
		}
		c := &fakeConn{b: b, conn: tls.Server(raw, b.tls), out: make(chan []byte, 4096), done: make(chan struct{}), subs: make(map[uint64]*fakeSub)}
		b.mu.Lock()
		b.conns[c] = true
		b.mu.Unlock()
		b.wg.Go(c.writeLoop)
		b.wg.Go(c.readLoop)
	}
}

func (c *fakeConn) writeLoop() {
	for {
		select {
		case frame := <-c.out:
			if _, err := c.conn.Write(frame); err != nil {
				c.conn.Close()
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *fakeConn) readLoop() {
	defer func() {
		c.b.mu.Lock()
		delete(c.b.conns, c)
		c.b.mu.Unlock()
		close(c.done)
		c.conn.Close()
	}()
	frames := protocol.NewFrameReader(c.conn, 64<<20)
	for {
		body, err := frames.Next()
		if err != nil {
			return
		}
		id, m, err := protocol.Decode(body)
		if err != nil {
			c.b.t.Errorf("fake broker: %v", err)
			return
		}
		c.b.onMessage(c, id, m)
	}
}

func (c *fakeConn) send(id uint64, m protocol.Message) {
	select {
	case c.out <- m.AppendFrame(nil, id):
	case <-c.done:
	}
}

func (c *fakeConn) reject(id uint64, code protocol.Code, outcome protocol.Outcome) {
	c.send(id, &protocol.Error{Code: code, Outcome: outcome, Text: "says the fake broker"})
}

func (b *fakeBroker) onMessage(c *fakeConn, id uint64, m protocol.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.onFrame != nil && b.onFrame(c, id, m) {
		return
	}
	switch m := m.(type) {
	case *protocol.Hello:
		b.hello(c, id)
	case *protocol.Ping:
		c.send(id, &protocol.Pong{Payload: m.Payload})
	case *protocol.Pong:
	case *protocol.Publish:
		b.publish(c, id, m)
	case *protocol.Subscribe:
		b.subscribe(c, id, m)
	case *protocol.Unsubscribe:
		delete(c.subs, m.Sub)
		c.send(id, &protocol.OK{})
	case *protocol.Credit:
		if s := c.subs[m.Sub]; s != nil {
			s.bytes += int64(m.Bytes)
			s.records += int64(m.Records)
			c.pump(s)
		}
	case *protocol.TopicGet:
		b.describe(c, id, m.Name)
	case *protocol.TopicCreate:
		if b.topics[m.Name] == nil && m.Auto && !b.autoCreate {
			c.reject(id, protocol.CodeNotFound, protocol.OutcomeRejected)
			return
		}
		if b.topics[m.Name] == nil {
			b.createLocked(m.Name, max(1, int(m.Spec.Partitions)))
		}
		b.describe(c, id, m.Name)
	case *protocol.WhoAmI:
		c.send(id, &protocol.Identity{Principal: "spiffe://test/client/orders", Node: "fake"})
	default:
		c.reject(id, protocol.CodeUnsupported, protocol.OutcomeRejected)
	}
}

func (b *fakeBroker) hello(c *fakeConn, id uint64) {
	b.hellos++
	if b.refuse != nil {
		c.send(id, b.refuse)
		return
	}
	resumed := c.conn.(*tls.Conn).ConnectionState().DidResume
	c.send(id, &protocol.Welcome{Version: 1, Node: "fake", Cluster: b.cluster, Identity: "spiffe://test/client/orders", Resumed: resumed, Limits: b.limits})
}

func (b *fakeBroker) create(name string, partitions int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.createLocked(name, partitions)
}

func (b *fakeBroker) createLocked(name string, partitions int) {
	b.born++
	t := &fakeTopic{name: name, inc: b.born}
	for range partitions {
		t.parts = append(t.parts, &fakePart{producers: make(map[[16]byte]*fakeProducer)})
	}
	b.topics[name] = t
}

func (b *fakeBroker) describe(c *fakeConn, id uint64, name string) {
	t := b.topics[name]
	if t == nil {
		c.reject(id, protocol.CodeNotFound, protocol.OutcomeNone)
		return
	}
	info := protocol.TopicInfo{Name: name, Incarnation: t.inc, Spec: protocol.TopicSpec{Partitions: uint32(len(t.parts))}}
	for _, p := range t.parts {
		info.Partitions = append(info.Partitions, protocol.PartitionInfo{Low: p.low, Next: p.next})
	}
	c.send(id, &protocol.Topic{Info: info})
}

func (b *fakeBroker) publish(c *fakeConn, id uint64, m *protocol.Publish) {
	b.publishes++
	t := b.topics[m.Topic]
	switch {
	case t == nil:
		c.reject(id, protocol.CodeNotFound, protocol.OutcomeRejected)
		return
	case m.Incarnation != 0 && m.Incarnation != t.inc:
		c.reject(id, protocol.CodeRecreated, protocol.OutcomeRejected)
		return
	}
	answer, code := b.appendBatch(t.parts[m.Partition], m)
	if code != 0 {
		c.reject(id, code, protocol.OutcomeRejected)
		return
	}
	answer.Incarnation = t.inc
	c.send(id, &answer)
	for other := range b.conns {
		for _, s := range other.subs {
			other.pump(s)
		}
	}
}

// appendBatch follows the producer rules of the state machine.
func (b *fakeBroker) appendBatch(p *fakePart, m *protocol.Publish) (protocol.Published, protocol.Code) {
	pr := p.producers[m.Producer]
	if pr == nil {
		pr = &fakeProducer{epoch: m.Epoch, seen: make(map[uint64]protocol.Published)}
		p.producers[m.Producer] = pr
	}
	if m.Epoch > pr.epoch && m.Sequence == 0 {
		*pr = fakeProducer{epoch: m.Epoch, seen: make(map[uint64]protocol.Published)}
	}
	switch {
	case m.Epoch < pr.epoch:
		return protocol.Published{}, protocol.CodeFenced
	case m.Epoch > pr.epoch:
		return protocol.Published{}, protocol.CodeSequence
	}
	if old, ok := pr.seen[m.Sequence]; ok {
		b.duplicates++
		old.Duplicate = true
		return old, 0
	}
	if m.Sequence != pr.next {
		return protocol.Published{}, protocol.CodeSequence
	}
	info, err := batch.Scan(m.Records, batch.DefaultLimits())
	if err != nil || info.Count != m.Count {
		b.t.Errorf("fake broker: blob of %d records: %v", m.Count, err)
		return protocol.Published{}, protocol.CodeMalformed
	}
	now := time.Now().UnixMilli()
	meta := batch.Meta{
		Flags: info.Flags, Base: topic.Offset(p.next), Count: info.Count, TimeMs: now, MinTTLMs: info.MinTTLMs,
		Publisher: "spiffe://test/client/orders", PolicyVersion: 7, Producer: m.Producer, Epoch: m.Epoch, Sequence: m.Sequence,
	}
	p.batches = append(p.batches, fakeBatch{p.next, info.Count, batch.Append(nil, &meta, m.Records)})
	done := protocol.Published{Offset: p.next, TimeMs: now}
	pr.seen[m.Sequence] = done
	pr.next += uint64(info.Count)
	p.next += int64(info.Count)
	return done, 0
}

func (b *fakeBroker) subscribe(c *fakeConn, id uint64, m *protocol.Subscribe) {
	s := &fakeSub{id: m.Sub, bytes: int64(m.CreditBytes), records: int64(m.CreditRecords)}
	answer := &protocol.Subscribed{}
	for _, text := range m.Patterns {
		pattern, err := topic.ParsePattern(text)
		if err != nil {
			b.t.Errorf("fake broker: %v", err)
		}
		if name, ok := pattern.Literal(); ok && b.topics[string(name)] == nil {
			c.reject(id, protocol.CodeNotFound, protocol.OutcomeNone)
			return
		}
		for name, t := range b.topics {
			if !pattern.Match(topic.Name(name)) {
				continue
			}
			for num, p := range t.parts {
				start := startOf(m, t, uint32(num), p)
				s.cursors = append(s.cursors, &fakeCursor{t, uint32(num), start})
				answer.Assignments = append(answer.Assignments, protocol.Assignment{Topic: name, Partition: uint32(num), Incarnation: t.inc, Start: start, End: p.next})
			}
		}
	}
	c.subs[m.Sub] = s
	c.send(id, answer)
	c.pump(s)
}

func startOf(m *protocol.Subscribe, t *fakeTopic, num uint32, p *fakePart) int64 {
	for _, cur := range m.Cursors {
		if cur.Topic == t.name && cur.Partition == num && cur.Incarnation == t.inc {
			return max(cur.Offset, p.low)
		}
	}
	switch m.Start {
	case protocol.StartLatest:
		return p.next
	case protocol.StartOffset:
		return max(p.low, m.Value)
	}
	return p.low
}

// pump delivers what credit allows, one batch a frame.
func (c *fakeConn) pump(s *fakeSub) {
	for _, cur := range s.cursors {
		p := cur.topic.parts[cur.num]
		for _, stored := range p.batches {
			if stored.base+int64(stored.count) <= cur.next {
				continue
			}
			if s.bytes <= 0 || s.records <= 0 {
				return
			}
			s.bytes -= int64(len(stored.raw))
			s.records -= int64(stored.count)
			cur.next = stored.base + int64(stored.count)
			c.send(0, &protocol.Deliver{
				Sub: s.id, Topic: cur.topic.name, Partition: cur.num, Incarnation: cur.topic.inc,
				Next: cur.next, End: p.next, Records: stored.count, Batches: stored.raw,
			})
		}
	}
}

// event sends an event to every connection.
func (b *fakeBroker) event(e *protocol.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.send(0, e)
	}
}

// records returns the bodies of a partition in order.
func (b *fakeBroker) records(name string, num int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var bodies []string
	for _, stored := range b.topics[name].parts[num].batches {
		var parsed batch.Batch
		if _, err := batch.Parse(stored.raw, &parsed); err != nil {
			b.t.Fatal(err)
		}
		var r batch.Record
		for cur := batch.Records(parsed.Records); cur.Next(&r); {
			bodies = append(bodies, string(r.Body))
		}
	}
	return bodies
}
