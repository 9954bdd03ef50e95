package main

import "runtime/debug"

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
