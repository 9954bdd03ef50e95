package history

import "fmt"

// Fault is something that must not be.
type Fault struct {
	Kind      string // one of the constants below
	Partition string
	Offset    int64
	Text      string
}

// Kinds of faults in a log.
const (
	Lost      = "lost"            // acknowledged, and not there
	Misplaced = "misplaced"       // acknowledged at another offset than it has
	Doubled   = "doubled"         // there twice
	Refused   = "refused"         // rejected, and there
	Reordered = "reordered"       // behind a later one of its client
	Skipped   = "skipped"         // an offset is missing, or comes twice
	Wrong     = "wrong bytes"     // nobody wrote that
	Forged    = "wrong publisher" // by another than its client
	Diverged  = "diverged"        // read at one time as one record, at another as another
)

func (f Fault) String() string {
	return fmt.Sprintf("%s: %s offset %d: %s", f.Kind, f.Partition, f.Offset, f.Text)
}

// CheckLog compares a partition, read from its first record to its end, with what clients were told. publisher says as whom a
// client publishes; nil = records have no publisher. It is one walk over log and operations.
func CheckLog(partition string, log []Record, ops []Op, publisher func(client string) string) (faults []Fault) {
	c := logCheck{partition: partition, publisher: publisher, wrote: map[string]*Op{}, at: make(map[string]int64, len(log)), last: map[string]int{}}
	for i := range ops {
		if o := &ops[i]; o.Partition == partition && o.Kind == Append {
			c.wrote[o.Value] = o
		}
	}
	for i := range log {
		c.record(int64(i), &log[i])
	}
	for i := range ops {
		switch o := &ops[i]; {
		case o.Partition != partition || o.Outcome != OK:
		case o.Kind == Append:
			c.acknowledged(o)
		case o.Kind == Read:
			c.read(o, log)
		}
	}
	return c.faults
}

type logCheck struct {
	partition string
	publisher func(client string) string
	wrote     map[string]*Op   // appends by value
	at        map[string]int64 // where a value is
	last      map[string]int   // number of the last append of a client, + 1
	faults    []Fault
}

func (c *logCheck) fault(kind string, offset int64, format string, args ...any) {
	c.faults = append(c.faults, Fault{kind, c.partition, offset, fmt.Sprintf(format, args...)})
}

// record looks at the record that stands at a place of the log.
func (c *logCheck) record(place int64, r *Record) {
	if r.Offset != place {
		c.fault(Skipped, place, "the record there says that its offset is %d", r.Offset)
	}
	o := c.wrote[r.Value]
	if o == nil {
		c.fault(Wrong, place, "nobody wrote %q", r.Value)
		return
	}
	if first, twice := c.at[r.Value]; twice {
		c.fault(Doubled, place, "%q is at offset %d, too", r.Value, first)
		return
	}
	c.at[r.Value] = place
	if o.Outcome == Rejected {
		c.fault(Refused, place, "%q was rejected: %s", r.Value, o.Error)
	}
	if c.publisher != nil && r.Publisher != c.publisher(o.Client) {
		c.fault(Forged, place, "%q was published by %s, the record says %s", r.Value, c.publisher(o.Client), r.Publisher)
	}
	if o.Number < c.last[o.Client] {
		c.fault(Reordered, place, "append %d of %s comes behind its append %d", o.Number, o.Client, c.last[o.Client]-1)
	}
	c.last[o.Client] = max(c.last[o.Client], o.Number+1)
}

// acknowledged looks for what was acknowledged.
func (c *logCheck) acknowledged(o *Op) {
	switch at, there := c.at[o.Value]; {
	case !there:
		c.fault(Lost, o.Offset, "%q was acknowledged", o.Value)
	case at != o.Offset:
		c.fault(Misplaced, at, "%q was acknowledged at offset %d", o.Value, o.Offset)
	}
}

// read compares what a read brought with the log.
func (c *logCheck) read(o *Op, log []Record) {
	for i, r := range o.Records {
		at := o.Offset + int64(i)
		switch {
		case r.Offset != at:
			c.fault(Skipped, at, "%s read offset %d there", o.Client, r.Offset)
			return
		case at >= int64(len(log)):
			c.fault(Lost, at, "%s read %q", o.Client, r.Value)
			return
		case r.Value != log[at].Value || r.Publisher != log[at].Publisher:
			c.fault(Diverged, at, "%s read %q by %s, now it is %q by %s", o.Client, r.Value, r.Publisher, log[at].Value, log[at].Publisher)
			return
		}
	}
}
