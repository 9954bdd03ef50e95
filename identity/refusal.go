package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"strings"
)

// Reasons for which crypto/tls ends a handshake before our rules are asked.
const (
	ReasonNotTLS    Reason = "not_tls"   // plain text, another protocol, random bytes
	ReasonVersion   Reason = "version"   // nothing but TLS older than 1.3
	ReasonTimeout   Reason = "timeout"   // the handshake was not finished in time
	ReasonAlert     Reason = "alert"     // the other end gave up: it refused us
	ReasonHandshake Reason = "handshake" // anything else
)

// Refusal says why a handshake on a listener of side ended with err, whoever ended it, and counts it. The
// identity is what the certificate claims; where the reason is "untrusted" nobody vouches for it.
func (s *Source) Refusal(side Side, err error) *RefusedError {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused // verify has counted it
	}
	refused := s.explain(err)
	s.metrics.refused(side, refused.Reason)
	return refused
}

func (s *Source) explain(err error) *RefusedError {
	if chain, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(chain.UnverifiedCertificates) > 0 {
		leaf := chain.UnverifiedCertificates[0]
		id, _ := identify(leaf, s.options.TrustDomain, s.options.Rules)
		refused, _ := errors.AsType[*RefusedError](named(untrusted(leaf, chain.Err), id))
		return refused
	}
	reason := ReasonHandshake
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		reason = ReasonNotTLS
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		reason = ReasonTimeout
	} else {
		reason = reasonOfText(err.Error())
	}
	return &RefusedError{Reason: reason, Detail: err.Error(), Err: err}
}

// serverTexts are errors of crypto/tls that have no type.
var serverTexts = []struct {
	text   string
	reason Reason
}{
	{"remote error: tls: ", ReasonAlert},
	{"tls: client requested unsupported application protocols", ReasonALPN},
	{"tls: client didn't provide a certificate", ReasonNone},
	{"tls: client offered only unsupported versions", ReasonVersion},
}

func reasonOfText(text string) Reason {
	for _, t := range serverTexts {
		if strings.HasPrefix(text, t.text) {
			return t.reason
		}
	}
	return ReasonHandshake
}
