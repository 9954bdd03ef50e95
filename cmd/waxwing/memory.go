package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// gcPercent is how much garbage a broker keeps beside what is in use before it collects: half of Go's default. Most of
// what is in use is large blocks without pointers, the newest records, so a collection is cheap and memory is not.
// BenchmarkSealed/memory has the figures.
const gcPercent = 50

// saveMemory sets up the collector, unless the environment does.
func saveMemory(env func(string) string) {
	if env("GOGC") == "" && env("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// giveBack has a broker collect its garbage and give memory back to the system at each SIGUSR1 until ctx ends, for those who weigh it. It
// does so twice, because what pools keep goes with the second collection.
func giveBack(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1) // before it is announced that the broker serves
	go func() {
		defer signal.Stop(asked)
		for {
			select {
			case <-ctx.Done():
				return
			case <-asked:
				debug.FreeOSMemory()
				debug.FreeOSMemory()
			}
		}
	}()
}
