package batch

import "fmt"

// Limits bound what Scan accepts.
type Limits struct {
	RecordBytes int // one encoded record
	KeyBytes    int
	HeaderBytes int // names and values of one record
	HeaderCount int // of one record
	Records     int // of one blob
	Bytes       int // of one blob
}

// DefaultLimits are the limits of DESIGN section 4.
func DefaultLimits() Limits {
	return Limits{
		RecordBytes: 1 << 20,
		KeyBytes:    4 << 10,
		HeaderBytes: 64 << 10,
		HeaderCount: 128,
		Records:     65535,
		Bytes:       1 << 20,
	}
}

// LimitError says which limit a record or blob breaks.
type LimitError struct {
	What string
	Got  int
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d, the limit is %d", e.What, e.Got, e.Max)
}

// FormatError says that bytes are no record, blob or batch.
type FormatError struct {
	What string
	Err  error
}

func (e *FormatError) Error() string { return e.What + ": " + e.Err.Error() }

func (e *FormatError) Unwrap() error { return e.Err }
