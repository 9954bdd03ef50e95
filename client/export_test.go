package client

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// Feed is a subscription without a connection: the same DELIVER comes again and again.
type Feed struct {
	sub   *Subscription
	frame []byte
	m     protocol.Deliver
}

// NewFeed makes a feed of m.
func NewFeed(m *protocol.Deliver) *Feed {
	c := newClient(Options{Logger: slog.New(slog.DiscardHandler)}, nil)
	sub := newSubscription(c, SubscribeOptions{Topics: []string{m.Topic}, WindowBytes: 1 << 40, WindowRecords: 1 << 40}, time.Time{})
	sub.assign([]protocol.Assignment{{Topic: m.Topic, Partition: m.Partition, Incarnation: m.Incarnation}})
	return &Feed{sub: sub, frame: m.AppendFrame(nil, 0)[4:]}
}

// Next decodes the frame again when its messages are used up.
func (f *Feed) Next() *Message {
	if f.sub.left == 0 {
		if _, err := protocol.DecodeDeliver(f.frame, &f.m); err != nil {
			panic(err)
		}
		for _, p := range f.sub.parts {
			p.position = 0
		}
		f.m.Next = 0
		if err := f.sub.onDeliver(&f.m); err != nil {
			panic(err)
		}
	}
	m, err := f.sub.Next(context.Background())
	if err != nil && err != io.EOF {
		panic(err)
	}
	return m
}

// ServerOrder tries a list of servers with a leader hint and says the order.
func ServerOrder(addrs []string, lost int, leader string) []string {
	l := &serverList{addrs: addrs}
	for range lost {
		l.lost("")
	}
	l.setLeader(leader)
	return l.order()
}

// BackoffWaits returns the first n waits.
func BackoffWaits(n int) []time.Duration {
	var b backoff
	waits := make([]time.Duration, n)
	for i := range waits {
		waits[i] = b.next()
	}
	return waits
}

// Bounds of a wait.
const (
	BackoffMin = backoffMin
	BackoffMax = backoffMax
)

// Translate is translate.
func Translate(op, resource, principal string, m *protocol.Error) error {
	return translate(op, resource, principal, m)
}
