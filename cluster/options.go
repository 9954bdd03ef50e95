package cluster

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// Defaults of Options.
const (
	segmentAgeDefault   = time.Hour
	retainEveryDefault  = 10 * time.Second
	compareEveryDefault = time.Hour
	stallRejectDefault  = 5 * time.Second
	stallEndDefault     = 10 * time.Second
)

// GroupName is the one group of a node today. It holds catalog and data.
const GroupName = "0"

// Options of a Group. Zero values mean defaults where there is one.
type Options struct {
	Dir        string       // data folder of the node; the raft log goes to Dir/raft
	NodeID     string       // never changes for a data folder
	Lock       *DataDir     // of Dir; nil = Open takes it. The group owns it from then on, also when Open fails
	Log        *storage.Log // where committed batches go
	Limits     state.Limits
	QueueBytes int // commands waiting to be proposed; then Propose waits (64 MiB)

	LogFileBytes int // size of one file of the raft log (storage.LogFileBytes of SegmentBytes)

	// A segment is cut when so much was appended to it (storage.SegmentBytesDefault), or so long after its first entry
	// (an hour).
	SegmentBytes int64
	SegmentAge   time.Duration

	RetainEvery  time.Duration // between two looks at the limits of topics (10 s)
	CompareEvery time.Duration // between two comparisons with what other nodes have sealed (1 h)

	// When a write of the raft log has taken so long, commands are refused instead of queued, and those that wait are
	// answered (5 s); then the process ends (10 s).
	StallReject, StallEnd time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Fail       func(error) // called once when the process must end

	Peers *Peers       // nil = a group of one
	Facts func() Facts // what others may know of the program; nil = nothing

	peers    *peers // of tests: raft's transport and the first members
	recovers bool   // Survivor's: a recovery that did not end is no error, and Lock stays its
}

func (o *Options) setDefaults() error {
	switch {
	case o.Dir == "":
		return errors.New("no data folder")
	case o.NodeID == "":
		return errors.New("no node id")
	case o.Log == nil:
		return errors.New("no storage")
	}
	if o.Peers != nil {
		if err := o.Peers.check(o.NodeID); err != nil {
			return err
		}
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = storage.SegmentBytesDefault
	}
	if o.LogFileBytes == 0 {
		o.LogFileBytes = int(storage.LogFileBytes(o.SegmentBytes))
	}
	if o.SegmentAge == 0 {
		o.SegmentAge = segmentAgeDefault
	}
	if o.RetainEvery == 0 {
		o.RetainEvery = retainEveryDefault
	}
	if o.CompareEvery == 0 {
		o.CompareEvery = compareEveryDefault
	}
	if o.StallReject == 0 {
		o.StallReject = stallRejectDefault
	}
	if o.StallEnd == 0 {
		o.StallEnd = stallEndDefault
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("group", GroupName)
	if o.Fail == nil {
		o.Fail = func(error) {}
	}
	return nil
}
