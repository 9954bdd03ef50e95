// Package sim plays the life of a node from a seed, in one goroutine and without a disk: entries are appended and applied,
// segments filled, cut, sealed, merged and deleted, the raft log dropped behind them, and the power fails between any two
// steps. After each start everything is compared with a model that never fails.
//
// What decides is the real thing: state.Machine with its checkpoints, and the functions of storage/plan. What is only
// carried out (databases, files, raft) is a few slices here, with the one property of a disk that matters: what was not
// fsynced may or may not be there after a crash.
//
// A schedule depends on its seed alone: the same seed plays the same schedule, in any process.
//
// It does not test Badger, raft or the file system: the fault tables, the power cuts and the crash tests do.
package sim
