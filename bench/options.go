package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/bench/handshake"
)

// Scenario is what is measured.
type Scenario string

// Scenarios.
const (
	Pub     Scenario = "pub"     // publish; read back afterwards
	Sub     Scenario = "sub"     // read what is retained
	E2E     Scenario = "e2e"     // publish and receive at once
	Latency Scenario = "latency" // the same at a fixed rate
	Fanout  Scenario = "fanout"  // one record for many subscribers
)

// Options say how. Defaults has those of a scenario; Check says what is wrong.
type Options struct {
	Scenario Scenario

	Messages uint64        // of the measured phase, all connections together; 0 = as many as Duration takes
	Duration time.Duration // of the measured phase
	Warmup   time.Duration // of a phase before, which is not measured

	Size     int // bytes of a payload
	SizeDist SizeDist

	Conns      int     // publishing (sub: reading) connections
	Window     int     // records of a connection that may be unacknowledged
	BatchBytes int     // largest batch; 0 = the client's default
	Rate       float64 // records a second, all connections together; 0 = as fast as they are acknowledged (closed loop)
	Topics     int
	Partitions int // of each topic
	Members    int // subscribers, each of which gets everything

	Kex   []handshake.Kex   // of Handshake: key exchanges, one after the other
	Reuse []handshake.Reuse // of Handshake: ways, one after the other

	Seed uint64 // of payloads and sizes
	Runs int    // how often all of it is done

	// Patience is how long a reader may get nothing before what is missing counts as lost.
	Patience time.Duration
	// Progress is told in words what is being done, at most 5 times a second; nil = nobody wants to know.
	Progress func(string)
	// Ask is told what the one who measures has to do, such as killing a leader that is not the bench's own; nil = as Progress.
	Ask func(string)
}

// Defaults are the options of a scenario where nothing else is said.
func Defaults(s Scenario) Options {
	o := Options{Scenario: s, Duration: 5 * time.Second, Warmup: time.Second, Size: 256, Conns: 1, Window: 4096, Topics: 1, Partitions: 1, Members: 1, Seed: 1, Runs: 1, Patience: time.Minute}
	switch s {
	case Latency:
		o.Rate = 1000
	case Fanout:
		o.Members = 10
	case Connections:
		o.Conns, o.Duration = idleDefault(), 3*time.Second
	case Failover:
		o.Conns, o.Window, o.Duration = 2, 64, 10*time.Second
	case Handshake:
		o.Conns, o.Window, o.Duration, o.Warmup = 8, 1, 2*time.Second, 500*time.Millisecond
		o.Kex, o.Reuse = []handshake.Kex{handshake.PQ, handshake.X25519}, []handshake.Reuse{handshake.None, handshake.Ticket, handshake.Conn}
	}
	return o
}

// Limits of options: what is more is a slip of the pen, or takes more memory than a bench should.
const (
	connsMax   = 10_000
	windowMax  = 1 << 16
	streamsMax = 1 << 16
	runsMax    = 1000
)

// Check returns everything that is wrong.
func (o *Options) Check() error {
	var faults []error
	need := func(ok bool, format string, values ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, values...))
		}
	}
	need(o.Messages > 0 || o.Duration > 0, "duration %v: give --duration above zero, or --msgs", o.Duration)
	need(o.Warmup >= 0, "warm-up %v: it cannot be below zero", o.Warmup)
	need(o.Size >= stampBytes && o.Size <= payloadBytesMax, "size %d: use %d (number and checksum of a payload) to %d", o.Size, stampBytes, payloadBytesMax)
	need(o.Conns >= 1 && o.Conns <= connsMax, "conns %d: use 1 to %d", o.Conns, connsMax)
	need(o.Members >= 1 && o.Members <= connsMax, "members %d: use 1 to %d", o.Members, connsMax)
	need(o.Window >= 1 && o.Window <= windowMax, "window %d: use 1 to %d records", o.Window, windowMax)
	need(o.BatchBytes >= 0 && o.BatchBytes <= payloadBytesMax, "batch %d: use 0 to %d bytes", o.BatchBytes, payloadBytesMax)
	need(o.Rate >= 0 && o.Rate <= 1e9, "rate %g: use 0 (as fast as possible) to 1e9 a second", o.Rate)
	need(o.Scenario != Latency || o.Rate > 0, "rate: latency is measured at a fixed rate; give one above zero")
	need(o.Topics >= 1 && o.Partitions >= 1 && o.Topics <= streamsMax && o.Partitions <= 4096 && int64(o.Topics)*int64(o.Partitions)*int64(o.Conns) <= streamsMax,
		"topics %d x partitions %d x conns %d: at least 1 each, at most 4096 partitions and %d in all", o.Topics, o.Partitions, o.Conns, streamsMax)
	need(o.Scenario != Handshake || len(o.Kex) > 0 && len(o.Reuse) > 0, "kex, reuse: name one of each at least")
	need(o.Runs >= 1 && o.Runs <= runsMax, "runs %d: use 1 to %d", o.Runs, runsMax)
	return errors.Join(faults...)
}

func (o *Options) say(format string, values ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, values...))
	}
}

// ask says what somebody has to do.
func (o *Options) ask(format string, values ...any) {
	if o.Ask == nil {
		o.say(format, values...)
		return
	}
	o.Ask(fmt.Sprintf(format, values...))
}

// open says whether the loop is open: records have a time at which they are due.
func (o *Options) open() bool { return o.Rate > 0 }
