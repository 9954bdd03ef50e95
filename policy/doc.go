// Package policy turns rules into decisions: may this principal use this verb on this
// resource, and which rule says so.
//
// A policy is one YAML document (docs/policy.md) that Compile reads strictly: it takes
// effect whole or not at all, and every fault is reported with its line.
//
// Invariants:
//   - Default deny. What no rule allows is denied, and an empty or absent document
//     denies everything.
//   - Deny beats allow, whatever the order, the role or the binding they stand in.
//   - A pattern (a wildcard subscription) is granted only if every name that it matches
//     is inside the union of what is allowed. Where it overlaps a deny, the names are
//     decided one by one, at delivery.
//   - Text captured from an identity never becomes a pattern character or a second
//     segment.
//   - Decide costs no allocation and depends on the name's segments, not on the number
//     of rules.
//
// A Policy never changes; a new document is a new Policy. Policies and Subjects are
// safe for concurrent use.
//
// The package does not replicate, store or apply documents, does not look topics up,
// and knows no certificates: a principal is text that package identity has verified.
package policy
