// Package plan decides about the life of segments, and of the raft log behind them, from numbers alone: what a start
// keeps and deletes, which old segments go or are merged, from which entry on the raft log must stay, whether log and
// segments belong together, and whether a record is missing.
//
// Invariants: every function is pure: no disk, no clock, no state. storage and cluster ask here before they touch a file,
// and the simulator (internal/sim) drives the same functions through crashes by the thousand.
//
// It does not know batches, databases or raft, and it deletes nothing.
package plan
