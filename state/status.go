package state

import "strconv"

// Status says how a command ended. Every status but StatusOK and StatusDuplicate
// means that nothing was changed.
type Status uint8

// Statuses.
const (
	StatusOK        Status = iota // done, or already so
	StatusDuplicate               // publish: these records are in the log already, at Offset
	StatusNotFound                // no such topic, partition (it may have been deleted) or entry
	StatusExists                  // create: a topic of this name with other settings
	StatusRecreated               // the topic or partition has another incarnation
	StatusSequence                // publish: neither the next sequence nor a repeat inside the window
	StatusFenced                  // publish: a higher epoch of this producer exists
	StatusConflict                // the version to compare is not the current one (Version says which is)
	StatusLimit                   // a count or size limit; Text names it
	StatusInvalid                 // the command makes no sense; Text says why
)

var statusNames = [...]string{
	"ok", "duplicate", "not_found", "exists", "recreated", "sequence", "fenced", "conflict", "limit", "invalid",
}

// String is the stable lower-case name of the status.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "status(" + strconv.Itoa(int(s)) + ")"
}

// Done reports whether the command took effect, now or before.
func (s Status) Done() bool { return s == StatusOK || s == StatusDuplicate }
