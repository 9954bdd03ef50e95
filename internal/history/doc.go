// Package history records what clients did and what they were told, and says whether a log of messages could have answered so.
//
// A Recorder notes each operation with the times of call and return. Two checkers read what it noted. CheckLog goes once over
// a log that was read back and finds what an acknowledgement forbids: lost, doubled, reordered, foreign, wrongly signed records.
// CheckLinearizable gives the history of each partition to porcupine, as appends, reads and tails of one log.
//
// An operation ends as OK, REJECTED (it will never appear) or UNKNOWN (it appears once or never). The log that was read back
// tells which of the unknown ones happened.
//
// It is for tests and imports nothing of the project. A Recorder may be used by many goroutines.
package history
