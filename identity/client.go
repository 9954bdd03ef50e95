package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ClientOptions say who a client is and whom it trusts. Each item is a file or PEM text.
type ClientOptions struct {
	CertFile, KeyFile, CAFile string
	CertPEM, KeyPEM, CAPEM    []byte
	ServerName                string // host name that the broker's certificate must have; "" = the one dialed
	TrustDomain               string // of the brokers; "" = the client's own
	Sessions                  bool   // keep TLS sessions, so that a reconnect is cheap
}

// ClientSource holds a client's certificate, roots and TLS sessions. Its methods may be used
// by many goroutines.
type ClientSource struct {
	options ClientOptions

	loading sync.Mutex // One reload at a time: the files that were read last are the ones in use.

	mu       sync.Mutex
	loaded   *clientFiles           // Guarded by mu.
	sessions tls.ClientSessionCache // Guarded by mu. Belongs to loaded.
}

// clientFiles is one consistent set of files.
type clientFiles struct {
	cert        *tls.Certificate
	roots       *x509.CertPool
	trustDomain string
	principal   Principal
	hash        [32]byte
}

// OpenClient loads and checks the files. An incomplete set is an error, never a connection
// without a certificate.
func OpenClient(o ClientOptions) (*ClientSource, error) {
	s := &ClientSource{options: o}
	if err := s.Reload(); err != nil {
		return nil, fmt.Errorf("open client certificate: %w", err)
	}
	return s, nil
}

// Reload reads the files again. If one is bad, nothing changes. A new certificate starts new
// sessions: an old ticket would resume the old identity.
func (s *ClientSource) Reload() error {
	s.loading.Lock()
	defer s.loading.Unlock()
	next, err := s.options.load()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded != nil && s.loaded.hash == next.hash {
		return nil
	}
	s.loaded = next
	if s.options.Sessions {
		s.sessions = tls.NewLRUClientSessionCache(64)
	}
	return nil
}

// load reads certificate, key and roots.
func (o *ClientOptions) load() (*clientFiles, error) {
	if o.KeyFile != "" {
		if err := checkKeyMode(o.KeyFile); err != nil {
			return nil, err
		}
	}
	certPEM, err := textOf("certificate", o.CertPEM, o.CertFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := textOf("private key", o.KeyPEM, o.KeyFile)
	if err != nil {
		return nil, err
	}
	caPEM, err := textOf("CA certificates", o.CAPEM, o.CAFile)
	if err != nil {
		return nil, err
	}
	cert, err := pair(orText(o.CertFile), certPEM, orText(o.KeyFile), keyPEM)
	if err != nil {
		return nil, err
	}
	cas, err := ParseCertificates(orText(o.CAFile), caPEM)
	if err != nil {
		return nil, err
	}
	f := &clientFiles{cert: cert, roots: x509.NewCertPool(), trustDomain: o.TrustDomain, hash: sha256.Sum256(bytes.Join([][]byte{certPEM, keyPEM, caPEM}, []byte{0}))}
	for _, c := range cas {
		f.roots.AddCert(c)
	}
	return f, f.whoAmI()
}

// whoAmI notes the client's own identity, and takes the brokers' trust domain from it if
// none is configured.
func (f *clientFiles) whoAmI() error {
	uris, err := rawURIs(f.cert.Leaf)
	if err != nil {
		return err
	}
	if len(uris) == 1 {
		f.principal = Principal(uris[0])
		if u := f.cert.Leaf.URIs; f.trustDomain == "" && len(u) == 1 && u[0].Scheme == "spiffe" {
			f.trustDomain = u[0].Host
		}
	}
	if f.trustDomain == "" {
		return errors.New("the certificate has no SPIFFE ID to take the brokers' trust domain from; set the trust domain")
	}
	return nil
}

// textOf takes the PEM text or reads the file.
func textOf(what string, text []byte, file string) ([]byte, error) {
	switch {
	case len(text) > 0:
		return text, nil
	case file == "":
		return nil, fmt.Errorf("no %s given; a connection needs a certificate, its key and the CA certificates", what)
	}
	return readFile(file)
}

// orText names what a PEM text came from.
func orText(file string) string {
	if file == "" {
		return "PEM text"
	}
	return file
}

// Principal is who the client is by its own certificate; "" if that has no URI SAN.
func (s *ClientSource) Principal() Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded.principal
}

// Leaf is the client's own certificate.
func (s *ClientSource) Leaf() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded.cert.Leaf
}

// Config is the config for a connection to a broker at a host name. Configs of one source share
// its sessions.
func (s *ClientSource) Config(serverName string) *tls.Config {
	return s.ConfigFor(serverName, ClientSide)
}

// ConfigFor is Config for another of a node's listeners.
func (s *ClientSource) ConfigFor(serverName string, side Side) *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.loaded
	if s.options.ServerName != "" {
		serverName = s.options.ServerName
	}
	c := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		RootCAs:          f.roots,
		ServerName:       serverName,
		NextProtos:       side.protocols(),
		VerifyConnection: func(cs tls.ConnectionState) error { return f.verifyBroker(cs, serverName, side) },
		// With Certificates alone, Go sends none if the server does not name its issuer, and the server's
		// "certificate required" would hide that the CA is the wrong one.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.cert, nil },
	}
	if side == ClientSide {
		c.ClientSessionCache = s.sessions
	}
	return c
}

// verifyBroker holds the broker to its rules, also on a resumed connection, for which Go verifies
// no chain again.
func (f *clientFiles) verifyBroker(cs tls.ConnectionState, serverName string, side Side) error {
	if want := side.protocols(); !contains(want, cs.NegotiatedProtocol) {
		return &RefusedError{Reason: ReasonALPN, Detail: fmt.Sprintf("the server speaks no %s on this port: is it a Waxwing %s port?", want[0], side)}
	}
	if len(cs.PeerCertificates) == 0 {
		return &RefusedError{Reason: ReasonNone, Detail: "the server presented no certificate"}
	}
	leaf := cs.PeerCertificates[0]
	var fresh chainCache
	if _, err := verifyChain(&fresh, cs.PeerCertificates, f.roots, serverUsages, nil); err != nil {
		return err
	}
	if err := leaf.VerifyHostname(serverName); err != nil {
		return &RefusedError{Reason: ReasonUntrusted, Detail: err.Error(), Err: err}
	}
	id, err := identify(leaf, f.trustDomain, nil)
	if err != nil {
		return err
	}
	if id.Role != RoleBroker {
		return &RefusedError{Reason: ReasonRole, Identity: string(id.Principal), Detail: "the server's certificate is not a broker's (spiffe://TRUST-DOMAIN/broker/NODE)"}
	}
	return nil
}

var serverUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// Run follows the files until ctx ends; onReload hears of each attempt (nil = it worked, or nothing
// changed). PEM texts never change: Run then only waits.
func (s *ClientSource) Run(ctx context.Context, onReload func(error)) error {
	o := &s.options
	files := []string{o.CertFile, o.KeyFile, o.CAFile}
	if len(dirsOf(files)) == 0 {
		<-ctx.Done()
		return nil
	}
	return follow(ctx, files, nil, nil, func() {
		err := s.Reload()
		if onReload != nil {
			onReload(err)
		}
	})
}
