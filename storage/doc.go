// Package storage keeps committed batches where readers find them: the newest in memory, all of
// them in segments, one Badger database each. It knows nothing of topics, consumers or raft: it gets batches in
// order, by partition id, and signals when a partition grows; it is told where to cut segments, and keeps with each the
// checkpoint that it is given.
//
// Invariants: the offsets of a partition are dense; what was appended is readable at once and until it
// is dropped; a batch leaves memory only when Badger has it; a batch that should be there and is not, or whose
// CRC is wrong, is ErrCorrupt, never "absent".
//
// A sealed segment is durable, proven by reading it back from the disk, and never written again. What is not
// sealed is not durable here: the raft log is the truth for it (DESIGN section 7); unsealed folders are deleted at start
// and filled again by replay.
package storage
