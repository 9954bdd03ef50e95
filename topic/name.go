package topic

// Limits of the grammar (DESIGN section 3).
const (
	MaxBytes    = 255 // bytes in a name or pattern
	MaxSegments = 16  // segments in a name or pattern
)

// Name is a validated topic or group name: one to MaxSegments segments of
// [A-Za-z0-9_-], joined by '.', at most MaxBytes bytes. Make one with ParseName.
type Name string

// Offset is the position of a record in its partition. Offsets are dense and
// start at 0.
type Offset int64

// PartitionID names one partition of one incarnation of one topic for ever; ids
// are never reused.
type PartitionID uint64

// Incarnation tells two topics of the same name apart: each creation gets a new one.
type Incarnation uint64
