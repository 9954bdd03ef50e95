package client

import "time"

// Message is a record as it was delivered. Its slices share memory with the other
// messages of its batch: they may be kept, but not written to, and one message kept
// for long keeps about a batch (256 KiB) alive; clone what you keep.
type Message struct {
	Topic       string
	Partition   uint32
	Incarnation uint64 // of the topic
	Offset      int64
	Time        time.Time // when the broker appended it

	Key     []byte // nil if the record has none
	Headers []Header
	Body    []byte

	// Publisher is the identity whose certificate published the record. The broker
	// stamps it; a publisher cannot choose it.
	Publisher string
	// PublisherSPKI is the SHA-256 of that certificate's public key.
	PublisherSPKI [32]byte
	// PolicyVersion is the version of the policy that allowed it.
	PolicyVersion uint64
}

// Header returns the value of a header and whether the record has it.
func (m *Message) Header(name string) (string, bool) {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}
