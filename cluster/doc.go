// Package cluster makes commands durable and applies them in order: it gathers the commands of
// many connections into raft entries (group commit), hands them to hashicorp/raft, whose log is
// raft-wal behind a checking wrapper, runs the state machine on what is committed, and
// passes the batches on to storage.
//
// Invariants: a command is answered OK only after its entry was fsynced by a majority; answers come in log order,
// after the change is visible; a fault of the log or of the state machine ends the process (Options.Fail) and nothing is
// acknowledged after it.
//
// A node runs groups; today there is one, named "0", with one voter or a few. No other package sees a type of
// hashicorp/raft.
package cluster
