package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// TLSError is a fault of TLS in words: what is wrong, with which certificate, and what to do.
type TLSError struct {
	What     string
	Which    string // certificate or end
	Expected string
	Got      string
	Next     string // what to do
	Err      error
}

func (e *TLSError) Error() string {
	text := e.What
	if e.Which != "" {
		text += " (" + e.Which + ")"
	}
	if e.Expected != "" || e.Got != "" {
		text += fmt.Sprintf(": expected %s, got %s", orNone(e.Expected), orNone(e.Got))
	}
	if e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

func (e *TLSError) Unwrap() error { return e.Err }

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Explain translates an error of dialing or of a handshake, seen from the client. It returns
// nil if err has nothing to do with TLS.
func Explain(err error) *TLSError {
	var (
		refused   *RefusedError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &host):
		return &TLSError{What: "the server's certificate is for another host", Which: subject(host.Certificate), Expected: host.Host, Got: strings.Join(hostNames(host.Certificate), ", "), Next: "connect by a name in the certificate, or set the server name", Err: err}
	case errors.As(err, &authority):
		return &TLSError{What: "the server's certificate was issued by a CA that is not yours", Which: subject(authority.Cert), Next: "check the CA file: it must hold the root that issued the broker's certificate", Err: err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &TLSError{What: "the server's certificate is not valid now", Which: subject(invalid.Cert), Expected: "a time in its validity", Got: time.Now().UTC().Format(time.RFC3339), Next: "renew the broker's certificate, or check this machine's clock", Err: err}
	case errors.As(err, &refused):
		return &TLSError{What: "the server's certificate was refused: " + refused.Detail, Which: refused.Identity, Next: "check the address, the CA file and the trust domain", Err: err}
	case errors.As(err, &record):
		return &TLSError{What: "the server does not speak TLS on this port", Got: fmt.Sprintf("bytes %x", record.RecordHeader), Expected: "a TLS record", Next: "check host and port", Err: err}
	case errors.As(err, &alert):
		return explainAlert(uint8(alert), err)
	}
	return explainText(err)
}

// explainText knows the remote alerts, which Go gives no type outside QUIC.
func explainText(err error) *TLSError {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "remote error: tls: "); ok {
		return explainRemote(after, err)
	}
	if strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") {
		return &TLSError{What: text, Next: "run `waxwing cert inspect` on the certificates of both ends", Err: err}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return nil
}

// remoteAlerts says what a broker means by an alert, by Go's text for it.
var remoteAlerts = []struct{ text, what, next string }{
	{"expired certificate", "the broker refused your certificate: it has expired, or is not valid yet", "renew it: waxwing cert renew"},
	{"unknown certificate authority", "the broker does not trust the CA that issued your certificate", "use a certificate of the broker's CA"},
	{"certificate required", "the broker wants a client certificate and got none", "set certificate and key"},
	{"bad certificate", "the broker refused your certificate", "run `waxwing cert inspect --identity` on it; the broker's log has the reason"},
	{"unsupported certificate", "the broker refused your certificate's kind", "run `waxwing cert inspect --identity` on it"},
	{"revoked certificate", "your certificate is revoked", "get a new one"},
	{"no application protocol", "the server does not speak Waxwing's protocol on this port", "check the port: clients use 7420"},
	{"protocol version not supported", "the server does not speak TLS 1.3", "check host and port"},
	{"handshake failure", "client and broker have no algorithm in common", "check the certificate's key type"},
}

func explainRemote(text string, err error) *TLSError {
	for _, a := range remoteAlerts {
		if strings.HasPrefix(text, a.text) {
			return &TLSError{What: a.what, Which: "your certificate", Next: a.next, Err: err}
		}
	}
	return &TLSError{What: "the broker ended the handshake: " + text, Next: "the broker's log has the reason", Err: err}
}

func explainAlert(alert uint8, err error) *TLSError {
	return explainRemote(tls.AlertError(alert).Error(), err)
}

func subject(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	if uris, err := rawURIs(c); err == nil && len(uris) == 1 {
		return uris[0]
	}
	return c.Subject.String()
}

// hostNames are the names a certificate is good for.
func hostNames(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
