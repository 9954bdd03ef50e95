package bench

import (
	"sync"
	"time"
)

// progressEvery is how often a phase says how far it is.
const progressEvery = 200 * time.Millisecond

// every calls say again and again until the returned function is called, which waits for its end.
func (o *Options) every(say func()) (done func()) {
	if o.Progress == nil {
		return func() {}
	}
	end := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				say()
			}
		}
	})
	return func() {
		close(end)
		loop.Wait()
	}
}

// count is how many latencies there are by now.
func (r *recorder) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.h.TotalCount()
}

// watch says how far the measured phase is.
func (f *flow) watch() (done func()) {
	began := time.Now()
	return f.o.every(func() {
		var published, received int64
		for _, r := range f.published {
			published += r.count()
		}
		for _, r := range f.received {
			received += r.count()
		}
		s := time.Since(began).Seconds()
		if f.o.Scenario == Pub {
			f.o.say("measuring, %.0f s: %d published, %.0f/s", s, published, float64(published)/s)
			return
		}
		f.o.say("measuring, %.0f s: %d published, %d delivered, %.0f/s", s, published, received, float64(received)/s)
	})
}
