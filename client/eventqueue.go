package client

import (
	"context"
	"sync"
)

// eventsMax is how many events wait for a slow OnEvent.
const eventsMax = 64

// eventQueue hands events to OnEvent from one goroutine, so that neither the reader
// nor the connect loop ever waits for the program.
type eventQueue struct {
	handler func(Event)
	wake    chan struct{} // holds 1: there is something

	mu sync.Mutex
	// Guarded by mu.
	waiting []Event
}

func newEventQueue(handler func(Event)) *eventQueue {
	return &eventQueue{handler: handler, wake: make(chan struct{}, 1)}
}

// put never blocks; a full queue loses its oldest event.
func (q *eventQueue) put(e Event) {
	if q.handler == nil {
		return
	}
	q.mu.Lock()
	if len(q.waiting) == eventsMax {
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, e)
	q.mu.Unlock()
	poke(q.wake)
}

func (q *eventQueue) take() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	es := q.waiting
	q.waiting = nil
	return es
}

// loop runs until ctx ends and hands over what is left then.
func (q *eventQueue) loop(ctx context.Context) {
	for {
		for _, e := range q.take() {
			q.handler(e)
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			for _, e := range q.take() {
				q.handler(e)
			}
			return
		}
	}
}

// poke fills a channel that holds one element, unless it is full.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
