package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// exampleTB lets the examples use the broker of the tests.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                   {}
func (*exampleTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (*exampleTB) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (tb *exampleTB) Cleanup(f func())       { tb.cleanups = append(tb.cleanups, f) }

func (tb *exampleTB) stop() {
	for i := len(tb.cleanups) - 1; i >= 0; i-- {
		tb.cleanups[i]()
	}
}

// exampleBroker stands for your broker and its certificates.
func exampleBroker() (options client.Options, stop func()) {
	tb := &exampleTB{}
	w := newWorld(tb)
	w.broker.create("orders", 1)
	return w.options, tb.stop
}

func Example() {
	options, stop := exampleBroker() // Servers, CertFile, KeyFile and CAFile of yours
	defer stop()
	ctx := context.Background()

	c, err := client.Dial(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	ack, err := c.Publish(ctx, "orders", client.Record{Key: []byte("customer-7"), Body: []byte("3 apples")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored at offset", ack.Offset)

	sub, err := c.Subscribe(ctx, client.SubscribeOptions{Topics: []string{"orders"}, From: client.Earliest(), StopAtEnd: true})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for m, err := range sub.Messages() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s from %s\n", m.Body, m.Publisher)
	}
	// Output:
	// stored at offset 0
	// 3 apples from spiffe://test/client/orders
}

// Records that are published without waiting travel together. Keep the futures, or
// call Flush, to learn what became of them.
func ExampleClient_PublishAsync() {
	options, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	var futures []*client.Future
	for i := range 1000 {
		futures = append(futures, c.PublishAsync(ctx, "orders", client.Record{Body: fmt.Appendf(nil, "order %d", i)}))
	}
	for i, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			log.Fatalf("order %d: %v", i, err)
		}
	}
	fmt.Println(len(futures), "orders are durable")
	// Output: 1000 orders are durable
}

func ExampleClient_SubscribeFunc() {
	options, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	c.Publish(ctx, "orders", client.Record{Body: []byte("one"), Headers: []client.Header{{Name: "priority", Value: "high"}}})
	c.Publish(ctx, "orders", client.Record{Body: []byte("two")})

	read := client.SubscribeOptions{Topics: []string{"orders"}, From: client.AtOffset(0), StopAtEnd: true}
	err = c.SubscribeFunc(ctx, read, func(m *client.Message) error {
		priority, _ := m.Header("priority")
		fmt.Printf("%d: %s %s\n", m.Offset, m.Body, priority)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0: one high
	// 1: two
}

// A publish ends as stored, as not stored, or as unknown; the error's type says which.
func ExampleDeniedError() {
	err := error(&client.DeniedError{
		Op: "publish", Resource: "payments", Identity: "spiffe://example.org/client/orders",
		Rule: "no-payments", Line: 17, PolicyVersion: 4,
	})
	if denied, ok := errors.AsType[*client.DeniedError](err); ok {
		fmt.Printf("rule %s in line %d of policy version %d\n", denied.Rule, denied.Line, denied.PolicyVersion)
	}
	fmt.Println(errors.Is(err, client.ErrDenied))
	// Output:
	// rule no-payments in line 17 of policy version 4
	// true
}

func ExampleUnknownOutcomeError() {
	outcome := func(err error) string {
		if _, unknown := errors.AsType[*client.UnknownOutcomeError](err); unknown {
			return "read back before publishing it again"
		}
		if errors.Is(err, client.ErrOverloaded) {
			return "not stored, try again later"
		}
		return "not stored"
	}
	rejected := &client.RejectedError{Op: "publish", Resource: "orders", Code: protocol.CodeOverloaded}
	fmt.Println(outcome(rejected))
	fmt.Println(outcome(&client.UnknownOutcomeError{Op: "publish", Resource: "orders", Err: client.ErrTimeout}))
	// Output:
	// not stored, try again later
	// read back before publishing it again
}

// Events tell what the client does on its own.
func ExampleOptions_onEvent() {
	options, stop := exampleBroker()
	defer stop()
	connected := make(chan string, 1)
	options.OnEvent = func(e client.Event) {
		switch e := e.(type) {
		case *client.ConnectedEvent:
			connected <- e.Node
		case *client.DisconnectedEvent:
			log.Print(e)
		}
	}
	c, err := client.Dial(context.Background(), options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
	fmt.Println("connected to node", <-connected)
	// Output: connected to node fake
}

func ExampleClient_Topics() {
	options, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	if _, err := c.Topics().Create(ctx, "payments", client.TopicSpec{Partitions: 3, MaxAge: 7 * 24 * time.Hour}); err != nil {
		log.Fatal(err)
	}
	info, err := c.Topics().Get(ctx, "payments")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Name, "has", len(info.Partitions), "partitions")
	_, err = c.Topics().Get(ctx, "refunds")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// payments has 3 partitions
	// true
}

func ExampleClient_WhoAmI() {
	options, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	me, err := c.WhoAmI(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(me.Principal)
	// Output: spiffe://test/client/orders
}

// A failure of TLS says what is wrong, with which certificate, and what to do.
func ExampleTLSError() {
	options, stop := exampleBroker()
	defer stop()
	options.ServerName = "elsewhere.example.org"
	_, err := client.Dial(context.Background(), options)
	if failed, ok := errors.AsType[*client.TLSError](err); ok {
		fmt.Println(failed.What)
		fmt.Println("expected:", failed.Expected)
		fmt.Println(failed.Next)
	}
	// Output:
	// the server's certificate is for another host
	// expected: elsewhere.example.org
	// connect by a name in the certificate, or set the server name
}
