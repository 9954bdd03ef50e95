package state

import (
	"bytes"
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// PolicyDoc is the policy document as bytes; package policy knows what they mean.
type PolicyDoc struct {
	Document []byte // read-only
	Version  uint64 // from 1; 0 = none was ever set
	By       string // principal that set it, or what the operator's tool wrote
	AtMs     int64  // log time, unix ms
}

// SetPolicy replaces the policy document if the current version is Expect, or, with
// Reset, whatever it is (the way back in from a stopped node's data).
type SetPolicy struct {
	Expect   uint64
	Reset    bool
	Document []byte
	By       string
}

const setPolicyFields = 4

// AppendSetPolicy encodes c.
func AppendSetPolicy(dst []byte, c *SetPolicy) []byte {
	dst = appendHead(dst, kindSetPolicy, setPolicyFields)
	dst = codec.AppendUint(dst, c.Expect)
	dst = codec.AppendBool(dst, c.Reset)
	dst = codec.AppendBin(dst, c.Document)
	return codec.AppendStr(dst, c.By)
}

func decodeSetPolicy(body []byte) (SetPolicy, error) {
	f, err := openFields(body, kindSetPolicy, setPolicyFields)
	if err != nil {
		return SetPolicy{}, err
	}
	c := SetPolicy{Expect: f.Uint(), Reset: f.Bool(), Document: f.Bin(len(body)), By: f.text(principalBytesMax)}
	return c, f.close()
}

// onSetPolicy compares and sets. A repeat of the change that made the current version
// is answered like the first time.
func (m *Machine) onSetPolicy(c *SetPolicy, e *Effects) Result {
	now := &m.next.policy
	if len(c.Document) > m.limits.PolicyBytes {
		return Result{Status: StatusLimit, Version: now.Version, Text: fmt.Sprintf("the policy document has %d bytes; at most %d are allowed", len(c.Document), m.limits.PolicyBytes)}
	}
	same := now.Version > 0 && now.By == c.By && bytes.Equal(now.Document, c.Document)
	if same && (c.Reset || now.Version == c.Expect+1) {
		return Result{Status: StatusOK, Version: now.Version}
	}
	if !c.Reset && c.Expect != now.Version {
		return Result{Status: StatusConflict, Version: now.Version, Text: fmt.Sprintf("the policy has version %d, not %d; look at the change and apply again", now.Version, c.Expect)}
	}
	*now = PolicyDoc{Document: bytes.Clone(c.Document), Version: now.Version + 1, By: c.By, AtMs: m.next.timeMs}
	e.Change |= ChangedPolicy
	return Result{Status: StatusOK, Version: now.Version}
}
