package main

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/internal/lane"
)

var soakTime = flag.Duration("soak.time", 3*time.Minute, "how long S-02 lasts")

// soakRound is after how long what was published is read back and given up, so that neither disk nor memory decides how long it lasts.
const soakRound = 20 * time.Second

// TestS02Soak: high load on three nodes from clients of each of them, and no fault. Every record is acknowledged, none as unknown or
// refused, and is read back from where it was acknowledged, once, in order, whole. At other lengths: -soak.time.
func TestS02Soak(t *testing.T) {
	lane.Need(t, 3, "S-02")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	total, start := int64(0), time.Now()
	for round := 0; time.Since(start) < *soakTime; round++ {
		var journals []*journal
		var published [3]int64
		var work sync.WaitGroup
		for i, name := range threeNames {
			j := &journal{t: t, c: s.dialFrom("orders", i), topic: fmt.Sprintf("soak.%d.%s", round, name), acked: make(chan int64, 1024), stop: make(chan struct{})}
			journals = append(journals, j)
			work.Go(func() { published[i] = j.publish() })
			work.Go(func() {
				for range j.acked {
				}
			})
		}
		select {
		case <-time.After(soakRound):
		case <-t.Context().Done():
		}
		for _, j := range journals {
			close(j.stop)
		}
		work.Wait()
		for i, j := range journals {
			j.verify(s.site, published[i])
			if err := j.c.Topics().Delete(t.Context(), j.topic); err != nil {
				t.Fatal(err)
			}
			j.c.Close(t.Context())
			total += published[i]
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d records of 1 KiB in %v, read back", total, time.Since(start).Round(time.Second))
}
