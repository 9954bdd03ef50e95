package state

import "time"

// WindowBatches is how many batches per producer and partition are remembered to
// recognise a repeat; so many may be unacknowledged at most.
const WindowBatches = 64

// ProducerTTL is the log time after which an unused producer is forgotten.
const ProducerTTL = 24 * time.Hour

// Limits are the ceilings of the machine. They decide results, so they must be the same
// on every node of a cluster: programs use the zero value, only tests set them. What an
// operator may configure below them travels inside the commands (CreateTopic.TopicsMax).
// A zero field means its default.
type Limits struct {
	Topics          int // topics; default 200,000
	Partitions      int // partitions of all topics; default 200,000
	TopicPartitions int // partitions of one topic; default 4,096
	Producers       int // producers remembered; default 100,000

	// PrincipalProducers is how many of them one principal can have, so that nobody can
	// make the machine forget the producers of others alone; default 10,000.
	PrincipalProducers int

	Windows     int // (producer, partition) pairs remembered; default 250,000, at least Partitions
	PolicyBytes int // size of the policy document; default 256 KiB
	Revocations int // entries of the revocation list; default 65,536
	Groups      int // consumer groups; default 50,000
	GroupAside  int // dead records put aside for a group in one partition; default 10,000
}

// withDefaults fills the zero fields. Windows must hold what one producer can use, or a
// producer could push out itself.
func (l Limits) withDefaults() Limits {
	fill := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	fill(&l.Topics, 200_000)
	fill(&l.Partitions, 200_000)
	fill(&l.TopicPartitions, 4_096)
	fill(&l.Producers, 100_000)
	fill(&l.PrincipalProducers, 10_000)
	fill(&l.Windows, 250_000)
	fill(&l.PolicyBytes, 256<<10)
	fill(&l.Revocations, 65_536)
	fill(&l.Groups, 50_000)
	fill(&l.GroupAside, 10_000)
	l.Windows = max(l.Windows, l.Partitions)
	return l
}

// Limits of the fields of commands, in bytes.
const (
	principalBytesMax = 2_048 // as long as a SPIFFE ID may be
	reasonBytesMax    = 1_024
	clusterIDBytesMax = 128
	issuerBytesMax    = 4_096
	serialDigitsMax   = 64 // hexadecimal digits; X.509 allows 20 bytes
)
