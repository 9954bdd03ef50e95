package policy

import "strings"

// devDocument lets every client of a trust domain do everything.
const devDocument = `# The policy of "waxwing dev": every client of this trust domain may do everything.
# A production policy starts from "waxwing policy check" and docs/policy.md.
roles:
  everything:
    allow:
      - verbs: [publish, subscribe, consume, manage]
        topics: [">"]
        groups: [">"]
      - verbs: [observe, admin]
bindings:
  - identity: "spiffe://TRUST-DOMAIN/>"
    roles: [everything]
auto_create:
  - topics: ">"
`

// Dev is the permissive document of a developer's broker.
func Dev(trustDomain string) []byte {
	return []byte(strings.ReplaceAll(devDocument, "TRUST-DOMAIN", trustDomain))
}
