package bench

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// Target is what is measured.
type Target struct {
	Name        string         // as it was asked for: dev3, or a context
	Client      client.Options // how to reach it
	Nodes       []Node         // brokers whose process can be looked at; may be empty
	Own         bool           // the brokers were started for this run
	SameMachine bool           // they share the machine with the one who measures
	OneProcess  bool           // they even share its process
	Notes       []string       // in what they differ from a broker as it comes
	// Floor starts handshake.ServeFloor with a broker's certificate, in a process of its own; nil = there is no such certificate at hand.
	Floor func(context.Context) (addr string, usage func(context.Context) (Usage, error), stop func() error, err error)
}

// Node is one broker.
type Node struct {
	ID   string
	Addr string // HOST:PORT for clients
	// Usage reads what its process has used.
	Usage func(context.Context) (Usage, error)
	// Rest has its process collect garbage and give memory back to the system, and then reads how many bytes live objects and stacks
	// take; nil = nobody can.
	Rest func(context.Context) (inUse uint64, err error)
	// Handshakes reads how many the broker has counted since it started; nil = nobody can.
	Handshakes func(context.Context) (full, resumed uint64, err error)
	// Kill ends its process as kill -9 does; nil = it is not ours to kill.
	Kill func()
	// Restart starts one that was killed, on its data, and returns when it serves; nil = it stays down.
	Restart func(context.Context) error
}

// Usage is what a process has used since it started.
type Usage struct {
	CPU      time.Duration
	Resident uint64 // bytes of memory now, pages of mapped files among them
	Peak     uint64 // the most there ever was of that; 0 = not known
	Private  uint64 // bytes now that the kernel cannot take back by dropping pages of files; 0 = not known
}
