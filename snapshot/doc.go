// Package snapshot is the format of a backup: one stream that holds what a node had stored as of one entry of its log. It
// frames and checks; what stands in the chunks is storage's and the state machine's.
//
// Invariants: a reader believes nothing. A flipped bit, a chunk that is missing, doubled or in another place, an end that
// came too early and bytes behind the end are all ErrDamaged; a file of another kind is ErrForeign, one of a newer program
// ErrNewer, each before anything else is looked at. No length makes it take memory that the stream has not filled.
//
// It is no protection against forgers: whoever can write the file can make its sums right. It does not encrypt: a snapshot
// holds every record in plain.
package snapshot
