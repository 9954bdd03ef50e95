package state

import (
	"fmt"
	"math"
	"strings"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// RevocationKind says what an entry names. The values are those of the wire.
type RevocationKind uint8

// Kinds.
const (
	RevokeIdentity RevocationKind = 1 // Value = principal
	RevokeSPKI     RevocationKind = 2 // Value = hex SHA-256 of the SubjectPublicKeyInfo
	RevokeSerial   RevocationKind = 3 // Value = serial, lower-case hex; Issuer = RFC 2253 name
)

// Revocation is one entry of the revocation list. Kind, Issuer and Value name it.
type Revocation struct {
	Kind   RevocationKind
	Value  string
	Issuer string
	Reason string
	By     string // principal that added it
	AtMs   int64  // log time, unix ms
}

// Revoke adds Entry to the list or removes it. Adding what is there, and removing what
// is not, change nothing and are OK.
type Revoke struct {
	Remove bool
	Entry  Revocation // By and AtMs are set by the machine
	By     string
}

const revokeFields = 6

// AppendRevoke encodes c.
func AppendRevoke(dst []byte, c *Revoke) []byte {
	dst = appendHead(dst, kindRevoke, revokeFields)
	dst = codec.AppendBool(dst, c.Remove)
	dst = codec.AppendUint(dst, uint64(c.Entry.Kind))
	dst = codec.AppendStr(dst, c.Entry.Value)
	dst = codec.AppendStr(dst, c.Entry.Issuer)
	dst = codec.AppendStr(dst, c.Entry.Reason)
	return codec.AppendStr(dst, c.By)
}

func decodeRevoke(body []byte) (Revoke, error) {
	f, err := openFields(body, kindRevoke, revokeFields)
	if err != nil {
		return Revoke{}, err
	}
	c := Revoke{Remove: f.Bool()}
	c.Entry = Revocation{Kind: RevocationKind(f.UintMax(math.MaxUint8)), Value: f.text(principalBytesMax), Issuer: f.text(issuerBytesMax), Reason: f.text(reasonBytesMax)}
	c.By = f.text(principalBytesMax)
	return c, f.close()
}

func (m *Machine) onRevoke(c *Revoke, e *Effects) Result {
	if reason := c.Entry.fault(); reason != "" {
		return Result{Status: StatusInvalid, Version: m.next.revVersion, Text: reason}
	}
	key := c.Entry.key()
	_, there := m.next.revocations.Get(key)
	switch {
	case there == !c.Remove:
		return Result{Status: StatusOK, Version: m.next.revVersion}
	case c.Remove:
		m.next.revocations, _, _ = m.next.revocations.Delete(key)
	case m.next.revocations.Len() >= m.limits.Revocations:
		return Result{Status: StatusLimit, Version: m.next.revVersion, Text: fmt.Sprintf("the revocation list is full: at most %d entries", m.limits.Revocations)}
	default:
		r := c.Entry
		r.By, r.AtMs = c.By, m.next.timeMs
		m.next.revocations, _, _ = m.next.revocations.Insert(key, r)
	}
	m.next.revVersion++
	e.Change |= ChangedRevocations
	return Result{Status: StatusOK, Version: m.next.revVersion}
}

// fault says why the entry names nothing, or "".
func (r *Revocation) fault() string {
	switch r.Kind {
	case RevokeIdentity:
		if r.Value == "" || r.Issuer != "" {
			return "an identity revocation needs an identity and no issuer"
		}
	case RevokeSPKI:
		if len(r.Value) != 64 || !isHex(r.Value) || r.Issuer != "" {
			return "a key revocation needs the SHA-256 of the key as 64 lower-case hexadecimal digits and no issuer"
		}
	case RevokeSerial:
		if len(r.Value) > serialDigitsMax || !isHex(r.Value) || r.Issuer == "" || strings.Contains(r.Issuer, "\x00") {
			return "a serial revocation needs the serial in lower-case hexadecimal and the issuer's name"
		}
	default:
		return fmt.Sprintf("revocation kind %d is unknown", r.Kind)
	}
	return ""
}

// key orders the list by kind, issuer and value. An issuer has no byte 0 (fault), so two
// entries never share a key.
func (r *Revocation) key() []byte {
	key := make([]byte, 0, 2+len(r.Issuer)+len(r.Value))
	key = append(key, byte(r.Kind))
	key = append(key, r.Issuer...)
	key = append(key, 0)
	return append(key, r.Value...)
}

// isHex reports whether s is a non-empty run of lower-case hexadecimal digits.
func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
