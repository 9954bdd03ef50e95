package protocol

// frameSlack is what a frame may hold besides a maximal batch: the fields before it, or the
// headers of stored batches.
const frameSlack = 64 << 10

// HelloBytesMax is the cap of a connection's first frame, before the broker knows whether it
// serves that client.
const HelloBytesMax = 8 << 10

// DefaultLimits are the limits that a broker announces unless it is configured otherwise.
func DefaultLimits() Limits {
	return Limits{
		FrameBytes:    1<<20 + frameSlack,
		BatchBytes:    1 << 20,
		RecordBytes:   1 << 20,
		KeyBytes:      4 << 10,
		HeaderBytes:   64 << 10,
		HeaderCount:   128,
		BatchRecords:  65535,
		WindowBytes:   8 << 20,
		Subscriptions: 256,
	}
}
