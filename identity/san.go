package identity

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
)

// Rule maps certificates of an existing PKI, which have no URI SAN, to principals.
type Rule struct {
	From  string // dns, email or cn: which name of the certificate
	Match string // the name, or *.SUFFIX for one label before a suffix (dns only)
}

// Check reports what is wrong with a rule.
func (r Rule) Check() error {
	switch r.From {
	case "dns", "email", "cn":
	default:
		return fmt.Errorf("from is %q; use dns, email or cn", r.From)
	}
	if r.Match == "" {
		return fmt.Errorf("match is empty; write the name, or *.SUFFIX for dns")
	}
	if name := strings.ReplaceAll(r.Match, "*", ""); name != "" && !mappable(name) {
		return fmt.Errorf("match %q: an identity has letters, digits and . - _ @ only, so this never matches one", r.Match)
	}
	if strings.Contains(strings.TrimPrefix(r.Match, "*."), "*") || r.From != "dns" && strings.Contains(r.Match, "*") {
		return fmt.Errorf("match %q: '*' may only be the first label of a dns name", r.Match)
	}
	return nil
}

// matches compares bytes; '*' is one whole label.
func (r Rule) matches(name string) bool {
	if suffix, ok := strings.CutPrefix(r.Match, "*"); ok {
		label, found := strings.CutSuffix(name, suffix)
		return found && label != "" && !strings.Contains(label, ".")
	}
	return name == r.Match
}

// names returns the certificate's names of the rule's sort.
func (r Rule) names(c *x509.Certificate) []string {
	switch r.From {
	case "dns":
		return c.DNSNames
	case "email":
		return c.EmailAddresses
	}
	return commonNames(c)
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonNames returns every common name of a subject: x509 shows only the last of several, and whoever issued the
// certificate may have looked at the first.
func commonNames(c *x509.Certificate) []string {
	var names []string
	for _, a := range c.Subject.Names {
		if text, ok := a.Value.(string); ok && a.Type.Equal(oidCommonName) {
			names = append(names, text)
		}
	}
	return names
}

// identify finds the one identity of a leaf, from its URI SAN or else by the rules.
func identify(leaf *x509.Certificate, trustDomain string, rules []Rule) (ID, error) {
	uris, err := rawURIs(leaf)
	if err != nil {
		return ID{}, &RefusedError{Reason: ReasonBadIdentity, Detail: "the subject alternative names cannot be read: " + err.Error(), Err: err}
	}
	switch len(uris) {
	case 0:
		return mapped(leaf, rules)
	case 1:
		id, err := ParseID(uris[0], trustDomain)
		if err != nil {
			return ID{}, &RefusedError{Reason: ReasonBadIdentity, Identity: uris[0], Detail: "the URI SAN is no identity of this broker's trust domain: " + err.Error(), Err: err}
		}
		return id, nil
	}
	return ID{}, &RefusedError{Reason: ReasonManyURIs, Identity: strings.Join(uris[:2], " and "), Detail: fmt.Sprintf("the certificate has %d URI SANs; an identity is exactly one", len(uris))}
}

// mapped applies the ordered rules: the first that matches decides, and it must match one name.
func mapped(leaf *x509.Certificate, rules []Rule) (ID, error) {
	for _, r := range rules {
		var found []string
		for _, n := range r.names(leaf) {
			if r.matches(n) {
				found = append(found, n)
			}
		}
		switch {
		case len(found) == 0:
			continue
		case len(found) == 1 && !mappable(found[0]):
			return ID{}, &RefusedError{Reason: ReasonBadIdentity, Identity: r.From + ":" + found[0], Detail: fmt.Sprintf("rule %s %s matches a name with characters that no identity may have; letters, digits and . - _ @ are allowed", r.From, r.Match)}
		case len(found) == 1:
			return ID{Principal: Principal(r.From + ":" + found[0]), Role: RoleClient}, nil
		}
		return ID{}, &RefusedError{Reason: ReasonAmbiguous, Identity: r.From + ":" + found[0], Detail: fmt.Sprintf("rule %s %s matches %d names of the certificate; exactly one must", r.From, r.Match, len(found))}
	}
	return ID{}, &RefusedError{Reason: ReasonNoIdentity, Detail: "the certificate has no URI SAN (spiffe://TRUST-DOMAIN/client/NAME) and no identity rule maps it"}
}

// mappable reports whether a name can be an identity: no character of it means something in a pattern, a path or a log.
// So a wildcard certificate is nobody.
func mappable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_' || c == '@') {
			return false
		}
	}
	return s != ""
}

// Tags of the SAN extension, RFC 5280 section 4.2.1.6.
var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

const (
	tagURI   = 6
	namesMax = 256 // of one certificate
)

// rawURIs returns the URI SANs byte for byte. x509 has parsed them into url.URL, which has
// already folded and decoded what must be refused.
func rawURIs(c *x509.Certificate) ([]string, error) {
	var uris []string
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var list asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &list); err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("subject alternative name: %w", orTrailing(err))
		}
		for rest, names := list.Bytes, 0; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, fmt.Errorf("subject alternative name: %w", err)
			}
			if names++; names > namesMax {
				return nil, fmt.Errorf("subject alternative name: more than %d names", namesMax)
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris, nil
}

func orTrailing(err error) error {
	if err == nil {
		return asn1.SyntaxError{Msg: "trailing bytes"}
	}
	return err
}
