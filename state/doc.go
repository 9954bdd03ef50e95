// Package state is the replicated state machine: commands in, results out.
//
// A raft entry holds a time and many commands. Apply takes the entries in the order of
// the log and keeps topics, partitions, producers, consumer groups, members, the policy document, the
// revocation list and sealed ticket keys; for each accepted publish it builds the stored batch that storage
// then keeps.
//
// Invariants:
//   - Deterministic. The same entries give the same results, the same batches and the
//     same Digest on every node, whatever the node's clock, configuration, architecture
//     or map order. The only time is the one in the entry, and it never runs backwards.
//   - Partition ids and incarnations are never reused. Offsets of a partition are dense.
//   - A (principal, producer, epoch, sequence) is appended at most once while it is
//     among the last WindowBatches batches of its producer and partition.
//   - A group's floor never falls but by a reset; a dead record is settled and in its topic by the same entry.
//   - Every command but publish is idempotent or carries a version to compare.
//   - Nothing keeps a reference into the bytes of an entry.
//   - Entries are read strictly: a malformed one is an error, never a panic, and costs
//     no more memory than its own size.
//
// Apply belongs to one goroutine. View may be called, and its result read, by any
// number of goroutines meanwhile.
//
// The package does no I/O, starts no goroutine, reads no clock and does not know what a
// policy document means. It trusts the leader to have scanned record blobs (package
// batch) and to have asked policy before it proposed.
package state
