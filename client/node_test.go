package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// These tests run against a whole node: real TLS, real raft, real storage.

// nodeOptions are the options of a client of that name.
func nodeOptions(n *brokertest.Node, name string) client.Options {
	f := n.PKI.ClientFiles(name)
	return client.Options{Servers: []string{n.Addr}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA}
}

func dialNode(t testing.TB, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

func TestNodeRoundTrip(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dialNode(t, nodeOptions(n, "orders"))
	const records = 10_000
	publishMany(t, c, records)
	reader := dialNode(t, nodeOptions(n, "billing"))
	sub := subscribe(t, reader, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
	i := 0
	for m, err := range sub.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != string(body(i)) || m.Offset != int64(i) || m.Publisher != "spiffe://test.example/client/orders" {
			t.Fatalf("message %d: %+v", i, m)
		}
		i++
	}
	if i != records {
		t.Errorf("%d messages, want %d", i, records)
	}
}

// Connections of publisher and reader break at random points: nothing is lost, doubled
// or reordered, and the reader sees it all as one stream.
func TestNodeThroughCuts(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dialer := &cuttingDialer{rnd: rand.New(rand.NewPCG(seed, 0)), least: 40_000, most: 250_000}
	opts := nodeOptions(n, "orders")
	opts.Dialer, opts.BatchBytes, opts.WindowBytes = dialer.dial, 4<<10, 128<<10
	c := dialNode(t, opts)
	if _, err := c.Topics().Create(t.Context(), "orders", client.TopicSpec{}); err != nil {
		t.Fatal(err)
	}
	readerOpts := nodeOptions(n, "billing")
	readerOpts.Dialer = dialer.dial
	sub := subscribe(t, dialNode(t, readerOpts), client.SubscribeOptions{From: client.Earliest(), WindowBytes: 64 << 10})

	const records = 50_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		publishMany(t, c, records)
	}()
	for i := range records {
		m, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != string(body(i)) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
	}
	<-done
	if dialer.count() < 5 {
		t.Errorf("only %d connections: the test cut too little", dialer.count())
	}
	t.Logf("%d connections", dialer.count())
}

// cuttingDialer makes connections that break after some bytes.
type cuttingDialer struct {
	least, most int
	mu          sync.Mutex
	rnd         *rand.Rand // guarded by mu
	dials       int        // guarded by mu
}

func (d *cuttingDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	return &fuse{Conn: conn, left: d.least + d.rnd.IntN(d.most-d.least)}, nil
}

func (d *cuttingDialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

// A denial names the rule about what was tried, whether the topic exists or not.
func TestNodeDenied(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{Policy: brokertest.PolicyFor("orders", "publish", "orders")})
	c := dialNode(t, nodeOptions(n, "orders"))
	for _, topic := range []string{"payments", "nothing"} {
		_, err := c.Publish(t.Context(), topic, client.Record{})
		denied, ok := errors.AsType[*client.DeniedError](err)
		if !ok || denied.Op != "publish" || denied.Resource != topic || denied.Identity != "spiffe://test.example/client/orders" || denied.PolicyVersion == 0 {
			t.Errorf("publish to %s: %#v", topic, err)
		}
		_, err = c.Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{topic}})
		if denied, ok = errors.AsType[*client.DeniedError](err); !ok || denied.Op != "subscribe" {
			t.Errorf("subscribe to %s: %v", topic, err)
		}
	}
	if _, err := c.Publish(t.Context(), "orders", client.Record{}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a topic that is not there and not made: %v", err)
	}
	if _, err := c.Policy().Get(t.Context()); !errors.Is(err, client.ErrDenied) {
		t.Errorf("policy: %v", err)
	}
}

// A reconnect resumes the TLS session; both ends say so.
func TestNodeResumes(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	opts := nodeOptions(n, "orders")
	var mu sync.Mutex
	var conns []net.Conn
	opts.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	}
	connected := make(chan *client.ConnectedEvent, 4)
	opts.OnEvent = func(e client.Event) {
		if e, ok := e.(*client.ConnectedEvent); ok {
			connected <- e
		}
	}
	c := dialNode(t, opts)
	if e := <-connected; e.Resumed {
		t.Error("the first connection is resumed")
	}
	if _, err := c.WhoAmI(t.Context()); err != nil { // its answer comes behind the session tickets
		t.Fatal(err)
	}
	mu.Lock()
	conns[0].Close()
	mu.Unlock()
	if e := <-connected; !e.Resumed {
		t.Error("the reconnect was a full handshake")
	}
	who, err := c.WhoAmI(t.Context())
	if err != nil || !who.Resumed || who.Principal != "spiffe://test.example/client/orders" || !who.PostQuantum {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	if state, up := c.ConnectionState(); !up || !state.DidResume {
		t.Errorf("state: %t, resumed %t", up, state.DidResume)
	}
}

// The life of a topic as a subscriber with a pattern sees it: born, deleted, born anew.
func TestNodeTopicLife(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dialNode(t, nodeOptions(n, "orders"))
	sub := subscribe(t, c, client.SubscribeOptions{Topics: []string{"shop.>"}})
	publish := func(text string) {
		t.Helper()
		if _, err := c.Publish(t.Context(), "shop.orders", client.Record{Body: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	next := func() string {
		t.Helper()
		m, err := sub.Next(t.Context())
		if err != nil {
			return err.Error()
		}
		return string(m.Body)
	}
	publish("first")
	if got := next(); got != "first" {
		t.Errorf("got %q", got)
	}
	if err := c.Topics().Delete(t.Context(), "shop.orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Next(t.Context()); !errors.Is(err, client.ErrRecreated) {
		t.Errorf("after delete: %v", err)
	}
	publish("second")
	if got := next(); got != "second" {
		t.Errorf("got %q", got)
	}
}

// Topics, policy and revocations through the client, as an administrator uses them.
func TestNodeManagement(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dialNode(t, nodeOptions(n, "admin"))
	ctx := t.Context()
	info, err := c.Topics().Create(ctx, "orders", client.TopicSpec{Partitions: 3, MaxAge: time.Hour})
	if err != nil || len(info.Partitions) != 3 || info.Spec.MaxAge != time.Hour {
		t.Fatalf("create: %+v, %v", info, err)
	}
	if _, err := c.Topics().Create(ctx, "orders", client.TopicSpec{Partitions: 4}); !errors.Is(err, client.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	if _, created, err := c.Topics().CreateIfMissing(ctx, "orders", client.TopicSpec{}); err != nil || created {
		t.Errorf("create if missing: %t, %v", created, err)
	}
	five := uint32(5)
	if info, err = c.Topics().Alter(ctx, "orders", client.TopicChange{Partitions: &five}); err != nil || len(info.Partitions) != 5 {
		t.Errorf("alter: %+v, %v", info, err)
	}
	var names []string
	for info, err := range c.Topics().List(ctx, ">") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if len(names) != 1 || names[0] != "orders" {
		t.Errorf("list: %v", names)
	}
	doc, err := c.Policy().Get(ctx)
	if err != nil || len(doc.Document) == 0 {
		t.Fatalf("policy: %+v, %v", doc, err)
	}
	if _, err := c.Policy().Apply(ctx, client.PolicyChange{Document: doc.Document, Expect: doc.Version + 5}); !errors.Is(err, client.ErrConflict) {
		t.Errorf("apply for another version: %v", err)
	}
	if _, err := c.Policy().Apply(ctx, client.PolicyChange{Document: []byte("roles: 7"), Expect: doc.Version}); !errors.Is(err, client.ErrPolicy) {
		t.Errorf("apply nonsense: %v", err)
	}
	if _, err := c.Policy().Apply(ctx, client.PolicyChange{Document: []byte("bindings: []"), Expect: doc.Version}); !errors.Is(err, client.ErrLockout) {
		t.Errorf("apply a lock-out: %v", err)
	}
	next, err := c.Policy().Apply(ctx, client.PolicyChange{Document: doc.Document, Expect: doc.Version})
	if err != nil || next.Version != doc.Version+1 {
		t.Errorf("apply: %+v, %v", next, err)
	}
	if d, err := c.Policy().Explain(ctx, "", "publish", "orders"); err != nil || !d.Allow || d.Rule == "" {
		t.Errorf("explain: %+v, %v", d, err)
	}
}

// A revoked client is thrown out and told so; what it does then fails at once.
func TestNodeRevoked(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	admin := dialNode(t, nodeOptions(n, "admin"))
	c := dialNode(t, nodeOptions(n, "orders"))
	publishMany(t, c, 10)
	sub := subscribe(t, c, client.SubscribeOptions{})
	entry := client.Revocation{Identity: "spiffe://test.example/client/orders", Reason: "lost laptop"}
	if err := admin.Revocations().Add(t.Context(), entry, false); err != nil {
		t.Fatal(err)
	}
	_, err := sub.Next(t.Context())
	if refused, ok := errors.AsType[*client.RefusedError](err); !ok || refused.Identity != entry.Identity {
		t.Errorf("subscription: %v", err)
	}
	if _, err = c.Publish(t.Context(), "orders", client.Record{}); err == nil {
		t.Error("a revoked client published")
	}
	list, err := admin.Revocations().List(t.Context())
	if err != nil || len(list) != 1 || list[0].Identity != entry.Identity || list[0].Reason != entry.Reason || list[0].At.IsZero() {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := admin.Revocations().Remove(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	dialNode(t, nodeOptions(n, "orders"))
}

// A certificate of another CA is refused in TLS, and the client says so in words: the
// broker's alert is not lost although the client has already sent HELLO.
func TestNodeStranger(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	stranger := identitytest.New(t).ClientFiles("orders")
	opts := nodeOptions(n, "orders")
	opts.CertFile, opts.KeyFile = stranger.Cert, stranger.Key
	for range 50 {
		_, err := client.Dial(t.Context(), opts)
		e, ok := errors.AsType[*client.TLSError](err)
		if !ok || e.Next == "" {
			t.Fatalf("got %v", err)
		}
	}
	opts = nodeOptions(n, "orders")
	opts.CAFile = stranger.CA
	_, err := client.Dial(t.Context(), opts)
	if e, ok := errors.AsType[*client.TLSError](err); !ok || e.Next == "" {
		t.Errorf("a broker of another CA: %v", err)
	}
}

// A broker's certificate gives no client rights; the refusal is typed and names the
// identity that the broker saw.
func TestNodeRefusesBrokerCertificate(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	f := n.PKI.Save("n2", n.PKI.Broker("n2"))
	opts := nodeOptions(n, "orders")
	opts.CertFile, opts.KeyFile = f.Cert, f.Key
	for range 20 {
		_, err := client.Dial(t.Context(), opts)
		refused, ok := errors.AsType[*client.RefusedError](err)
		if !ok || refused.Code != protocol.CodeIdentity || refused.Identity != "spiffe://test.example/broker/n2" {
			t.Fatalf("got %v", err)
		}
	}
}

// The node stops and comes back on the same data while records flow: the client sends
// again what was unanswered, and the rebuilt node still knows which it has.
func TestNodeRestart(t *testing.T) {
	dir, pki := t.TempDir(), identitytest.New(t)
	first := brokertest.Start(t, brokertest.Options{Dir: dir, PKI: pki})
	opts := nodeOptions(first, "orders")
	opts.BatchBytes, opts.WindowBytes = 4<<10, 64<<10
	c := dialNode(t, opts)
	sub := subscribe(t, dialNode(t, nodeOptions(first, "billing")), client.SubscribeOptions{Topics: []string{"orders"}, From: client.Earliest()})

	load := startPipeline(t, c)
	if err := readInOrder(t.Context(), sub, 0, 10_000); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	brokertest.Start(t, brokertest.Options{Dir: dir, PKI: pki, Listen: func() (net.Listener, error) { return net.Listen("tcp", first.Addr) }})
	publishOne(t, dialNode(t, nodeOptions(first, "witness")), "elsewhere") // the node is back before the load ends
	if err := readInOrder(t.Context(), sub, 10_000, load.stop()); err != nil {
		t.Error(err)
	}
}

func publishOne(t *testing.T, c *client.Client, name string) {
	t.Helper()
	if _, err := c.Publish(t.Context(), name, client.Record{}); err != nil {
		t.Fatal(err)
	}
}

// startPipeline publishes without waiting for single acknowledgements until it is stopped, then demands that
// every record was acknowledged, in order.
func startPipeline(t *testing.T, c *client.Client) *load {
	l := &load{t: t, records: make(chan int, 1)}
	t.Cleanup(func() { l.ended.Store(true) })
	go func() {
		var futures []*client.Future
		for !l.ended.Load() {
			futures = append(futures, c.PublishAsync(context.Background(), "orders", client.Record{Body: body(len(futures))}))
		}
		for i, f := range futures {
			if ack, err := f.Wait(context.Background()); err != nil || ack.Offset != int64(i) {
				t.Errorf("record %d: %+v, %v", i, ack, err)
				break
			}
		}
		l.records <- len(futures)
	}()
	return l
}

// readInOrder reads records from to n-1.
func readInOrder(ctx context.Context, sub *client.Subscription, from, n int) error {
	for i := from; i < n; i++ {
		m, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if string(m.Body) != string(body(i)) || m.Offset != int64(i) {
			return fmt.Errorf("message %d is %q at offset %d", i, m.Body, m.Offset)
		}
	}
	return nil
}

// Every way to start, by the first record that it delivers.
func TestNodeStarts(t *testing.T) {
	n := brokertest.Start(t, brokertest.Options{})
	c := dialNode(t, nodeOptions(n, "orders"))
	acks := make([]client.Ack, 20)
	for i := range acks {
		ack, err := c.Publish(t.Context(), "orders", client.Record{Body: body(i)})
		if err != nil {
			t.Fatal(err)
		}
		acks[i] = ack
	}
	last := acks[19].Time
	firstAtLast := slices.IndexFunc(acks, func(a client.Ack) bool { return !a.Time.Before(last) })
	zero := uint32(0)
	for name, tt := range map[string]struct {
		from  client.Start
		first int
	}{
		"earliest": {client.Earliest(), 0},
		"latest":   {client.Latest(), 20},
		"offset":   {client.AtOffset(13), 13},
		"end":      {client.AtOffset(20), 20},
		"tail":     {client.Tail(4), 16},
		"time":     {client.At(last), firstAtLast},
		"since":    {client.Since(time.Hour), 0},
	} {
		sub := subscribe(t, c, client.SubscribeOptions{From: tt.from, Partition: &zero, StopAtEnd: true})
		var got []string
		for m, err := range sub.Messages() {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got = append(got, string(m.Body))
		}
		if len(got) != 20-tt.first || len(got) > 0 && got[0] != string(body(tt.first)) {
			t.Errorf("%s: %d messages, want them from %d on", name, len(got), tt.first)
		}
	}
	if _, err := c.Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{"orders"}, From: client.AtOffset(21)}); err == nil {
		t.Error("an offset beyond the end was accepted")
	}
}

// T-17 against a whole node: certificate and key are renewed under load; every record
// is acknowledged, and the node sees the new certificate from the next connection on.
func TestT17NodeRotation(t *testing.T) {
	lane.Need(t, 2, "T-17")
	n := brokertest.Start(t, brokertest.Options{})
	opts := nodeOptions(n, "orders")
	dialer := &cuttingDialer{rnd: rand.New(rand.NewPCG(1, 2)), least: 20_000, most: 60_000}
	opts.Dialer = dialer.dial
	c := dialNode(t, opts)
	before, err := c.WhoAmI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(t, c)
	renewed := n.PKI.Client("orders")
	replace(t, opts.CertFile, renewed.CertPEM)
	replace(t, opts.KeyFile, renewed.KeyPEM)
	for after := before; after.Serial == before.Serial; { // the load wears out connections
		if after, err = c.WhoAmI(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	count := load.stop()
	sub := subscribe(t, c, client.SubscribeOptions{From: client.Earliest(), StopAtEnd: true})
	wantBodies(t, readAll(t, sub), 0, count)
}
