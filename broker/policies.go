package broker

import (
	"fmt"
	"strings"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// onPolicyGet shows the document in force.
func (c *conn) onPolicyGet(*protocol.PolicyGet) (protocol.Message, *fault) {
	d := c.s.options.Group.View().Policy()
	return &protocol.Policy{Version: d.Version, ChangedBy: d.By, ChangedMs: d.AtMs, Document: d.Document}, nil
}

// onPolicyApply replaces the document. It is compiled and its tests are run before it is proposed:
// a bad one never reaches the log.
func (c *conn) onPolicyApply(j cluster.Judged, m *protocol.PolicyApply) (protocol.Message, *fault) {
	next, f := checkPolicy(m.Document, m.Expect+1)
	if f != nil {
		return nil, f
	}
	current, f := c.policyAt(m.Expect)
	if f != nil {
		return nil, f
	}
	if err := next.LocksOut(current, string(c.peer.Principal)); err != nil && !m.Force {
		return nil, &fault{code: protocol.CodeLockout, outcome: protocol.OutcomeRejected, text: err.Error() + "; force it if you mean it"}
	}
	r, index, f := c.do(j, state.AppendSetPolicy(nil, &state.SetPolicy{Expect: m.Expect, Document: m.Document, By: string(c.peer.Principal)}))
	if f != nil {
		return nil, f
	}
	c.s.log.Info("policy applied", "version", r.Version, "by", c.peer.Principal, "forced", m.Force)
	c.s.sync()
	return &protocol.Policy{Applied: index, Version: r.Version, ChangedBy: string(c.peer.Principal), Document: m.Document}, nil
}

// policyAt returns the policy that a change would replace, if that is still the one in force and lets the caller change
// it. The state machine compares the version once more, so both hold when the change is applied: who lost admin in a
// version that this node had not yet seen at dispatch cannot take it back.
func (c *conn) policyAt(version uint64) (*policy.Policy, *fault) {
	if c.s.Policy().Version() < version {
		c.s.sync()
	}
	p := c.s.Policy()
	if p.Version() != version {
		return nil, &fault{code: protocol.CodeConflict, outcome: protocol.OutcomeRejected, text: fmt.Sprintf("the policy has version %d, the change is for version %d; look at what changed and apply again", p.Version(), version)}
	}
	if d := p.For(string(c.peer.Principal)).Has(policy.Admin); !d.Allow {
		return nil, c.denied(policy.Admin, "", d)
	}
	return p, nil
}

// checkPolicy compiles a document and runs its tests.
func checkPolicy(doc []byte, version uint64) (*policy.Policy, *fault) {
	p, err := policy.Compile(doc, version)
	if err != nil {
		return nil, &fault{code: protocol.CodePolicyInvalid, outcome: protocol.OutcomeRejected, text: err.Error()}
	}
	failures := p.Test()
	if len(failures) == 0 {
		return p, nil
	}
	var lines []string
	for _, f := range failures {
		lines = append(lines, f.String())
	}
	return nil, &fault{code: protocol.CodePolicyInvalid, outcome: protocol.OutcomeRejected, text: fmt.Sprintf("%d of the document's tests fail: %s", len(failures), strings.Join(lines, "; "))}
}

// onPolicyExplain says what a rule decides, and why. About others only an admin may ask.
func (c *conn) onPolicyExplain(m *protocol.PolicyExplain) (protocol.Message, *fault) {
	who := string(c.peer.Principal)
	if m.Identity != "" && m.Identity != who {
		if f := c.has(policy.Admin); f != nil {
			return nil, f
		}
		who = m.Identity
	}
	verb, err := policy.ParseVerb(m.Action)
	if err != nil {
		return nil, invalid("%v", err)
	}
	d, err := c.s.Policy().For(who).Explain(verb, m.Resource)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return &protocol.Decision{Allow: d.Allow, Rule: d.Rule, Line: uint64(d.Line), Version: d.Version, Reason: d.Reason}, nil
}

// sync takes over what the state says of policy and revocations, and lets subscriptions look
// at topics and rights again. When it returns, what the state held at the call is in force: of two at once, the second
// waits for the first, and never puts an older list in the place of a newer one.
func (s *Server) sync() {
	s.follow.Lock()
	defer s.follow.Unlock()
	view := s.options.Group.View()
	s.syncPolicy(view.Policy())
	s.syncRevocations(view)
	s.eachConn((*conn).wakeSubscriptions)
}

// catchUp is sync, if what the state holds is not in force yet.
func (s *Server) catchUp() (changed bool) {
	if view := s.options.Group.View(); s.Policy().Version() >= view.Policy().Version && s.revoked.Load() >= view.RevocationVersion() {
		return false
	}
	s.sync()
	return true
}

// syncPolicy compiles a new document. One that does not compile on this node denies everything.
func (s *Server) syncPolicy(d state.PolicyDoc) {
	if d.Version <= s.policy.Load().Version() {
		return
	}
	p, err := policy.Compile(d.Document, d.Version)
	if err != nil {
		err = fmt.Errorf("policy version %d does not compile on this node, everything is denied: %w", d.Version, err)
		s.log.Error("policy cannot be used", "error", err)
		s.unusable.Store(&err)
		s.policy.Store(policy.DenyAll(d.Version))
		return
	}
	s.unusable.Store(nil)
	s.policy.Store(p)
	s.log.Info("policy in force", "version", d.Version, "by", d.By)
}
