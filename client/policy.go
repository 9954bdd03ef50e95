package client

import (
	"context"
	"time"

	"github.com/waxwing-mq/waxwing/protocol"
)

// PolicyDocument is the policy in force.
type PolicyDocument struct {
	Version   uint64
	ChangedBy string
	Changed   time.Time
	Document  []byte // YAML, byte for byte as it was applied
}

// PolicyChange replaces the policy document.
type PolicyChange struct {
	Document []byte
	// Expect is the version the change was made for. If another one is in force by
	// now, nothing happens and the error is ErrConflict.
	Expect uint64
	// Force allows a change that takes the right "admin" from the caller or from
	// the last one who has it.
	Force bool
}

// Decision is what the policy says and which rule says so.
type Decision struct {
	Allow   bool
	Rule    string // "" means no rule allows it
	Line    uint64 // of the rule in the document, 0 if none
	Version uint64 // of the document
	Reason  string // in words
}

// Policy reads and changes who may do what. Get it from Client.Policy.
type Policy struct {
	c            *Client
	linearizable bool
}

// Policy returns the part of the client that handles the policy.
func (c *Client) Policy() *Policy { return &Policy{c: c} }

// Linearizable returns the same, but Get shows every change that was acknowledged before the call; see Topics.Linearizable.
func (p *Policy) Linearizable() *Policy { return &Policy{p.c, true} }

// Get returns the policy in force, as of after the last change this client made; see Linearizable.
func (p *Policy) Get(ctx context.Context) (PolicyDocument, error) {
	m := &protocol.PolicyGet{After: p.c.after(p.linearizable)}
	answer, err := call[*protocol.Policy](ctx, p.c, "get policy", "", again, m)
	if err != nil {
		return PolicyDocument{}, err
	}
	return policyDocument(answer), nil
}

// Apply replaces the policy. It needs the right "admin", compiles the document and
// runs its tests first, and takes effect at once everywhere. Errors: ErrConflict,
// ErrPolicy, ErrLockout, ErrDenied.
func (p *Policy) Apply(ctx context.Context, change PolicyChange) (PolicyDocument, error) {
	m := &protocol.PolicyApply{Expect: change.Expect, Force: change.Force, Document: change.Document}
	answer, err := call[*protocol.Policy](ctx, p.c, "apply policy", "", once, m)
	if err != nil {
		return PolicyDocument{}, err
	}
	p.c.sawApplied(answer.Applied)
	return policyDocument(answer), nil
}

// Explain asks what the policy says about an action ("publish", "subscribe",
// "consume", "manage", "observe", "admin") on a resource (a topic, group or pattern;
// "" for actions without one). An empty identity is the caller; asking about another
// one needs the right "admin".
func (p *Policy) Explain(ctx context.Context, identity, action, resource string) (Decision, error) {
	m := &protocol.PolicyExplain{Identity: identity, Action: action, Resource: resource}
	answer, err := call[*protocol.Decision](ctx, p.c, "explain "+action, resource, again, m)
	if err != nil {
		return Decision{}, err
	}
	return Decision(*answer), nil
}

func policyDocument(m *protocol.Policy) PolicyDocument {
	return PolicyDocument{Version: m.Version, ChangedBy: m.ChangedBy, Changed: when(m.ChangedMs), Document: m.Document}
}
