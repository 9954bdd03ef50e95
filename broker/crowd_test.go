package broker_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// TestO06Topics fills a node with so many topics as its default limit allows, but one: all are listed, page by page, once
// each and in order; one more can be made, altered, written to and deleted; and a restart from the checkpoint has them all.
func TestO06Topics(t *testing.T) {
	n := lane.Pick(3_000, 10_000, 99_999)
	dir := t.TempDir()
	node := brokertest.Start(t, brokertest.Options{Dir: dir})
	before := heap()
	start := time.Now()
	createMany(t, node, n)
	t.Logf("%d topics made in %v; the node's heap grew by %d bytes each", n, time.Since(start), (int(heap())-int(before))/n)
	admin := node.Dial(t, "admin")
	checkPages(t, admin, n)

	if m := admin.Ask(&protocol.TopicCreate{Name: "one.more"}); brokertest.Code(m) != 0 {
		t.Fatalf("%#v", m)
	}
	if lane.Current() >= 3 {
		if m := admin.Ask(&protocol.TopicCreate{Name: "one.too.many"}); brokertest.Code(m) != protocol.CodeLimit {
			t.Errorf("topic %d: %#v", n+2, m)
		}
	}
	for _, m := range []protocol.Message{
		admin.Publish("one.more", 0, "x"),
		admin.Ask(&protocol.TopicAlter{Name: "one.more", Mask: state.AlterPartitions, Spec: protocol.TopicSpec{Partitions: 3}}),
		admin.Ask(&protocol.TopicDelete{Name: "one.more"}),
	} {
		if brokertest.Code(m) != 0 {
			t.Errorf("%#v", m)
		}
	}
	if err := node.Group.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.Log.WaitSealed(t.Context(), node.Group.View().Segment()-1); err != nil {
		t.Fatal(err)
	}
	size := 0
	for chunk, err := range node.Log.Checkpoint() {
		if err != nil {
			t.Fatal(err)
		}
		size += len(chunk)
	}
	node.Close()
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	again := clustertest.Start(t, dir)
	t.Logf("the checkpoint has %d bytes; a start from it takes %v", size, time.Since(start))
	if got := again.Group.View().TopicCount(); got != n {
		t.Errorf("%d topics after a restart, want %d", got, n)
	}
	runtime.KeepAlive(node)
}

func manyName(i int) topic.Name { return topic.Name(fmt.Sprintf("many.topics.%06d", i)) }

// createMany creates topics as fast as the log takes them.
func createMany(t *testing.T, node *brokertest.Node, n int) {
	t.Helper()
	var wg sync.WaitGroup
	window := make(chan struct{}, 256)
	for i := range n {
		window <- struct{}{}
		wg.Add(1)
		node.Group.Propose(state.AppendCreateTopic(nil, &state.CreateTopic{Name: manyName(i), By: "spiffe://test.example/client/admin"}), func(r state.Result, _ uint64, err error) {
			defer wg.Done()
			<-window
			if err != nil || !r.Created {
				t.Errorf("topic %d: %+v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
}

// checkPages lists all topics.
func checkPages(t *testing.T, r *brokertest.Raw, n int) {
	t.Helper()
	at, pages, start := 0, 0, time.Now()
	for list := (&protocol.TopicList{Pattern: "many.>"}); ; pages++ {
		m, ok := r.Ask(list).(*protocol.Topics)
		if !ok {
			t.Fatalf("page %d: %#v", pages, m)
		}
		for _, info := range m.Topics {
			if at >= n || info.Name != string(manyName(at)) {
				t.Fatalf("page %d: %s, want number %d", pages, info.Name, at)
			}
			at++
		}
		if !m.More {
			break
		}
		list.From = m.Topics[len(m.Topics)-1].Name + "\x00"
	}
	if at != n {
		t.Errorf("%d topics listed, want %d", at, n)
	}
	t.Logf("%d pages in %v", pages+1, time.Since(start))
}
