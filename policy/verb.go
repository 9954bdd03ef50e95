package policy

import (
	"fmt"
	"strings"
)

// Verb is what a principal wants to do.
type Verb uint8

// Verbs.
const (
	Publish   Verb = iota + 1 // write records to a topic
	Subscribe                 // read live and retained records of a topic
	Consume                   // read through a group: needs the group and the topic
	Manage                    // create, alter, trim and delete a topic
	Observe                   // metrics and status; no resource
	Admin                     // policy, members, revocation; no resource

	verbEnd
)

var verbNames = [verbEnd]string{"", "publish", "subscribe", "consume", "manage", "observe", "admin"}

// Verbs are all verbs.
func Verbs() []Verb { return []Verb{Publish, Subscribe, Consume, Manage, Observe, Admin} }

// String is the verb as the policy document writes it.
func (v Verb) String() string {
	if v == 0 || v >= verbEnd {
		return fmt.Sprintf("verb(%d)", uint8(v))
	}
	return verbNames[v]
}

// HasResource reports whether the verb is about a topic (or group).
func (v Verb) HasResource() bool { return v >= Publish && v <= Manage }

// ParseVerb reads a verb as the policy document writes it.
func ParseVerb(s string) (Verb, error) {
	for _, v := range Verbs() {
		if verbNames[v] == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("unknown verb %.32q; use one of %s", s, strings.Join(verbNames[1:], ", "))
}

// verbSet is a set of verbs, a bit each.
type verbSet uint8

func (s verbSet) has(v Verb) bool { return s&(1<<v) != 0 }

func (s *verbSet) add(v Verb) { *s |= 1 << v }

// resourceVerbs are those with a resource.
const resourceVerbs = verbSet(1<<Publish | 1<<Subscribe | 1<<Consume | 1<<Manage)
