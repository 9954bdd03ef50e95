package policy

// Decision is the answer to "may I", with what decided. Decisions are comparable.
type Decision struct {
	Allow   bool
	Rule    string // like "roles.publisher.allow[0]"; "" = no rule matched: default deny
	Line    int    // of the rule in the document; 0 = none
	Version uint64 // of the policy
	Reason  string // one of the Reason constants
}

// Reasons.
const (
	ReasonAllowed   = "an allow rule matches"
	ReasonCombined  = "allow rules cover it together"
	ReasonDenied    = "a deny rule matches"
	ReasonNoRule    = "no rule allows it"
	ReasonNoBinding = "no binding matches this identity"
	ReasonNoPolicy  = "there is no valid policy, so everything is denied"
	ReasonPartly    = "no set of allow rules covers all of the pattern"
)

// Right is one line of what a principal may or may not do.
type Right struct {
	Allow   bool
	Verb    Verb
	Pattern string // topics; "group:" and groups for Consume; "" for a verb without a resource
	Rule    string
	Line    int
}
