package topic

import "github.com/cespare/xxhash/v2"

// PartitionFor places a key: xxh64(key) mod n, with seed 0. Every client of every
// language must agree (testdata/partition.json). No partitions (n = 0) count as one.
func PartitionFor(key []byte, n uint32) uint32 {
	if n <= 1 {
		return 0
	}
	return uint32(xxhash.Sum64(key) % uint64(n))
}
