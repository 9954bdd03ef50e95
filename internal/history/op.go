package history

import "fmt"

// Kind is what a client did.
type Kind string

const (
	Append Kind = "append" // of one record to a partition
	Read   Kind = "read"   // of records from an offset to the end, as a node saw it at some time from Since on
	Tail   Kind = "tail"   // of a partition's end, as of now whatever the node
)

// Outcome is how an operation ended, as its client was told.
type Outcome string

const (
	OK       Outcome = "ok"
	Rejected Outcome = "rejected"
	Unknown  Outcome = "unknown"
)

// Record is a message at its place.
type Record struct {
	Offset    int64  `json:"offset"`
	Value     string `json:"value"` // the body, or a sum of it; no two appends have the same
	Publisher string `json:"publisher,omitempty"`
}

// Op is one operation. Times are nanoseconds on one clock.
type Op struct {
	Client    string  `json:"client"`
	Kind      Kind    `json:"kind"`
	Partition string  `json:"partition"`
	Call      int64   `json:"call"`
	Return    int64   `json:"return"`
	Outcome   Outcome `json:"outcome"`
	Error     string  `json:"error,omitempty"`

	Number int    `json:"number,omitempty"` // Append: of this client's appends to this partition, in the order of the calls, from 0
	Value  string `json:"value,omitempty"`  // Append: as in Record
	Offset int64  `json:"offset,omitempty"` // Append: where it is. Read: the first offset that was asked for

	Since   int64    `json:"since,omitempty"`    // Read: what it shows may be as old as this
	AtLeast int64    `json:"at_least,omitempty"` // Read: the end that it must show, because this client has seen it
	Records []Record `json:"records,omitempty"`  // Read: what came
	End     int64    `json:"end,omitempty"`      // Read and Tail: the next offset to be written
}

func (o *Op) String() string {
	text := fmt.Sprintf("%s: %s", o.Client, o.Kind)
	switch {
	case o.Kind == Append:
		text += fmt.Sprintf(" %q", o.Value)
	case o.Kind == Read:
		text += fmt.Sprintf(" from %d, at least to %d", o.Offset, o.AtLeast)
	}
	switch {
	case o.Outcome != OK:
		return fmt.Sprintf("%s: %s (%s)", text, o.Outcome, o.Error)
	case o.Kind == Append:
		return fmt.Sprintf("%s: at %d", text, o.Offset)
	}
	return fmt.Sprintf("%s: ends at %d", text, o.End)
}
