// Package lease decides who holds which record of a consumer group: the memory of the leader, of one group.
//
// A record is settled (package state knows), held by one member until its time is up, waiting for its next delivery, or
// not looked at yet. Take hands records out: first those whose next delivery is due, then new ones, from one partition
// after the other. What ends a delivery is proposed by the caller, who marks it (Settle), and tells what became of it
// (Done, Undo); meanwhile nobody else gets the record and its time does not run out.
//
// The package does no I/O, reads no clock and is not safe for use by several goroutines.
package lease
