package protocol

import (
	"fmt"
	"maps"
	"slices"
)

// codeNames are the stable names of codes, in texts, logs and docs/errors.md.
var codeNames = map[Code]string{
	CodeInternal:       "internal",
	CodeMalformed:      "malformed",
	CodeUnsupported:    "unsupported",
	CodeInvalid:        "invalid",
	CodeTooLarge:       "too_large",
	CodeLimit:          "limit",
	CodeIdentity:       "identity",
	CodeRevoked:        "revoked",
	CodeDenied:         "denied",
	CodeNotFound:       "not_found",
	CodeExists:         "exists",
	CodeRecreated:      "recreated",
	CodeSequence:       "sequence",
	CodeFenced:         "fenced",
	CodeConflict:       "conflict",
	CodePolicyInvalid:  "policy_invalid",
	CodeLockout:        "lockout",
	CodeFull:           "full",
	CodeOverloaded:     "overloaded",
	CodeNotLeader:      "not_leader",
	CodeNoQuorum:       "no_quorum",
	CodeNotCaughtUp:    "not_caught_up",
	CodeUnknownOutcome: "unknown_outcome",
	CodeCorrupt:        "corrupt",
	CodeTrimmed:        "trimmed",
	CodeOutOfRange:     "out_of_range",
	CodeShutdown:       "shutdown",
	CodeExpired:        "expired",
	CodeTimeout:        "timeout",
	CodeNotMember:      "not_member",
	CodeWrongCluster:   "wrong_cluster",
	CodeWrongNode:      "wrong_node",
	CodeStale:          "stale",
}

// String is the code's stable name.
func (c Code) String() string {
	if n, ok := codeNames[c]; ok {
		return n
	}
	return fmt.Sprintf("code_%d", uint16(c))
}

// ParseCode finds a code by its name.
func ParseCode(name string) (Code, error) {
	for c, n := range codeNames {
		if n == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("no error code is named %q", name)
}

// Codes lists every code of this version, in order.
func Codes() []Code {
	cs := slices.Collect(maps.Keys(codeNames))
	slices.Sort(cs)
	return cs
}

var outcomeNames = [...]string{"none", "rejected", "unknown"}

// String is the outcome's name.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome_%d", uint8(o))
}
