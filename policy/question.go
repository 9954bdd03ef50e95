package policy

import (
	"fmt"
	"strings"

	"github.com/waxwing-mq/waxwing/topic"
)

// groupPrefix marks a group where a resource is written as text. It is not in the
// grammar of topics.
const groupPrefix = "group:"

// question is a verb and a resource.
type question struct {
	verb    Verb
	pattern topic.Pattern // without wildcard it is a name
	group   topic.Name
}

// Explain decides on a resource written as text: a topic, a pattern, "group:" and a
// group (Consume only), or "" for a verb without a resource. The error says what is
// wrong with the question.
func (s *Subject) Explain(v Verb, resource string) (Decision, error) {
	q, err := parseQuestion(v, resource)
	if err != nil {
		return Decision{}, err
	}
	return q.ask(s), nil
}

// ask puts the question about a subject.
func (q *question) ask(s *Subject) Decision {
	switch {
	case !q.verb.HasResource():
		return s.Has(q.verb)
	case q.group != "":
		return s.DecideGroup(q.group)
	}
	return s.DecidePattern(q.verb, q.pattern)
}

// parseQuestion reads the resource of a verb.
func parseQuestion(v Verb, resource string) (q question, err error) {
	q.verb = v
	group, isGroup := strings.CutPrefix(resource, groupPrefix)
	switch {
	case !v.HasResource() && resource != "":
		err = fmt.Errorf("%s has no resource; leave %.64q out", v, resource)
	case !v.HasResource():
	case resource == "":
		err = fmt.Errorf("%s needs a topic", v)
	case isGroup && v != Consume:
		err = fmt.Errorf("a group goes with consume, not with %s", v)
	case isGroup:
		q.group, err = topic.ParseName(group)
	default:
		q.pattern, err = topic.ParsePattern(resource)
	}
	return q, err
}
