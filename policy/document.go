package policy

// document is a policy document as read and checked.
type document struct {
	roles    map[string]*role
	bindings []*binding
	auto     []autoRule
	tests    []testCase
}

// role is a named list of rules.
type role struct {
	rules []*rule
}

// rule allows or denies verbs on what its templates match.
type rule struct {
	allow  bool
	verbs  verbSet
	topics []template
	groups []template
	order  int // in the document
	on     Decision
}

// patterns is how many patterns the rule has.
func (r *rule) patterns() int { return len(r.topics) + len(r.groups) }

// binding gives the identities that match its pattern the rules of its roles and its own.
type binding struct {
	line     int
	identity identityPattern
	roles    []roleRef
	rules    []*rule // its own, then those of its roles
	index    int     // in the document
	captures bool    // some rule uses a capture
}

// roleRef is a use of a role, to be looked up when the whole document is read.
type roleRef struct {
	name string
	line int
}

// patterns is how many patterns an identity gets by this binding (at least 1).
func (b *binding) patterns() int {
	n := 1
	for _, r := range b.rules {
		n += r.patterns()
	}
	return n
}
