package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Side is one of a node's listeners.
type Side uint8

// Sides.
const (
	ClientSide Side = iota
	PeerSide
	AdminSide
)

// The ALPN protocols of the listeners.
const (
	ALPNClient = "waxwing/1"
	ALPNPeer   = "waxwing-peer/1"
	ALPNH2     = "h2"
	ALPNHTTP   = "http/1.1"
)

// protocols are the ALPN protocols of a side.
func (s Side) protocols() []string {
	switch s {
	case ClientSide:
		return []string{ALPNClient}
	case PeerSide:
		return []string{ALPNPeer}
	}
	return []string{ALPNH2, ALPNHTTP}
}

func (s Side) String() string { return [...]string{"client", "peer", "https"}[s] }

// sideOf tells the side from the negotiated protocol.
func sideOf(alpn string) (Side, bool) {
	for _, s := range []Side{ClientSide, PeerSide, AdminSide} {
		if slices.Contains(s.protocols(), alpn) {
			return s, true
		}
	}
	return 0, false
}

// Options of a node's Source.
type Options struct {
	TrustDomain string
	CertFile    string // the node's chain, leaf first, PEM
	KeyFile     string
	CAFile      string // roots that clients and peers must lead to, PEM
	CRLFile     string // "" = none
	Rules       []Rule // for certificates without URI SAN, in order
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Source holds a node's certificate, roots and revocations, and everything that follows from
// them. Its methods may be used by many goroutines.
type Source struct {
	options Options
	metrics metrics
	current atomic.Pointer[snapshot]

	loading sync.Mutex // One reload at a time: the files that were read last are the ones in use.

	mu       sync.Mutex
	revoked  *Revocations               // Guarded by mu.
	removed  map[string]struct{}        // Guarded by mu. Node ids; not changed once it is there.
	status   Status                     // Guarded by mu.
	watchers map[chan struct{}]struct{} // Guarded by mu.
	shared   []TicketSecret             // Guarded by mu. Of the cluster, newest first.
	own      []TicketSecret             // Guarded by mu. Used while there is none of the cluster; newest first.
}

// snapshot is one consistent set of files, revocations and ticket keys.
type snapshot struct {
	cert       *tls.Certificate
	self       ID
	roots      *x509.CertPool
	filesHash  [32]byte
	rootsHash  [32]byte
	crl        map[SerialKey]struct{}
	revoked    *Revocations
	removed    map[string]struct{} // node ids
	clients    *chainCache
	brokers    *chainCache
	generation uint64
	configs    [AdminSide + 1]*tls.Config
}

// Status is what a Source says of itself.
type Status struct {
	NotAfter   time.Time // of the node's certificate
	LoadedAt   time.Time
	Generation uint64 // raised by every change that makes old tickets invalid
	LastError  error  // of the last reload; nil = it worked
}

// Open loads and checks all files. The node's certificate must be a broker's, of the trust domain.
func Open(o Options) (*Source, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	s := &Source{options: o, metrics: newMetrics(o.Registerer), revoked: &Revocations{}}
	if err := s.Reload(); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	return s, nil
}

func (o *Options) check() error {
	errs := []error{CheckTrustDomain(o.TrustDomain)}
	for i, r := range o.Rules {
		if err := r.Check(); err != nil {
			errs = append(errs, fmt.Errorf("identity rule %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

// Reload reads all files again. If one is bad, nothing changes, and the error says what.
func (s *Source) Reload() error {
	s.loading.Lock()
	defer s.loading.Unlock()
	next, err := s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastError = err
	s.metrics.reloaded(err)
	if err != nil {
		return err
	}
	old := s.current.Load()
	if old != nil && old.filesHash == next.filesHash {
		return nil
	}
	if old != nil {
		next.generation = old.generation
	}
	if old == nil || old.rootsHash != next.rootsHash {
		s.raiseLocked(next)
	}
	s.installLocked(next)
	s.notifyLocked()
	s.status.LoadedAt = time.Now()
	return nil
}

// load reads the files into a snapshot without keys and configs.
func (s *Source) load() (*snapshot, error) {
	o := &s.options
	if err := checkKeyMode(o.KeyFile); err != nil {
		return nil, err
	}
	var texts [4][]byte
	for i, name := range []string{o.CertFile, o.KeyFile, o.CAFile, o.CRLFile} {
		if name == "" {
			continue
		}
		var err error
		if texts[i], err = readFile(name); err != nil {
			return nil, err
		}
	}
	cert, err := pair(o.CertFile, texts[0], o.KeyFile, texts[1])
	if err != nil {
		return nil, err
	}
	cas, err := ParseCertificates(o.CAFile, texts[2])
	if err != nil {
		return nil, err
	}
	n := &snapshot{cert: cert, roots: x509.NewCertPool(), clients: &chainCache{}, brokers: &chainCache{}}
	for _, c := range cas {
		n.roots.AddCert(c)
	}
	if err := n.loadCRL(o.CRLFile, texts[3], cas); err != nil {
		return nil, err
	}
	n.filesHash = sha256.Sum256(bytes.Join(texts[:], []byte{0}))
	n.rootsHash = sha256.Sum256(bytes.Join(texts[2:], []byte{0}))
	return n, n.checkSelf(o)
}

// loadCRL reads the revocation file; issuers are the roots and the node's own chain.
func (n *snapshot) loadCRL(name string, text []byte, cas []*x509.Certificate) error {
	if name == "" {
		return nil
	}
	issuers := cas
	for _, der := range n.cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		issuers = append(issuers, c)
	}
	lists, err := parseCRLs(name, text, issuers)
	if err != nil {
		return err
	}
	n.crl = fromCRLs(lists)
	return nil
}

// checkSelf holds the node's own certificate to the rules of a peer.
func (n *snapshot) checkSelf(o *Options) error {
	leaf := n.cert.Leaf
	id, err := identify(leaf, o.TrustDomain, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", o.CertFile, err)
	}
	if id.Role != RoleBroker {
		return fmt.Errorf("%s: the certificate is of %s; a broker needs one of spiffe://%s/broker/NODE: waxwing cert issue NODE --role broker", o.CertFile, id.Principal, o.TrustDomain)
	}
	n.self = id
	presented := []*x509.Certificate{leaf}
	for _, der := range n.cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%s: %w", o.CertFile, err)
		}
		presented = append(presented, c)
	}
	if _, err := verifyChain(n.brokers, presented, n.roots, peerUsages, nil); err != nil {
		return fmt.Errorf("%s does not lead to %s: %w", o.CertFile, o.CAFile, err)
	}
	return nil
}

// SetRevocations replaces the replicated list; r is the Source's from now on, and its version is above that of the one before.
// Tickets of before fall back to a full handshake.
func (s *Source) SetRevocations(r Revocations) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = &r
	next := *s.current.Load()
	s.raiseLocked(&next)
	s.installLocked(&next)
	s.notifyLocked()
}

// raiseLocked begins a generation: no ticket of before is valid. What the cluster's secrets are made into changes with what the
// generation verifies by, the node's own begin anew.
func (s *Source) raiseLocked(n *snapshot) {
	n.generation++
	s.own = []TicketSecret{NewTicketSecret()}
}

// SetRemoved replaces the list of nodes that were removed from the cluster: the peer port refuses their certificates.
func (s *Source) SetRemoved(nodes []string) {
	removed := make(map[string]struct{}, len(nodes))
	for _, n := range nodes {
		removed[n] = struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if maps.Equal(removed, s.removed) {
		return
	}
	s.removed = removed
	next := *s.current.Load()
	s.installLocked(&next)
	s.notifyLocked()
}

// installLocked makes a snapshot current.
func (s *Source) installLocked(n *snapshot) {
	n.revoked, n.removed = s.revoked, s.removed
	secrets := s.shared
	if len(secrets) == 0 {
		secrets = s.own
	}
	keys := n.ticketKeys(&s.options, secrets)
	for _, side := range []Side{ClientSide, PeerSide, AdminSide} {
		n.configs[side] = s.newConfig(n, side, keys)
	}
	s.current.Store(n)
	s.status.NotAfter, s.status.Generation = n.cert.Leaf.NotAfter, n.generation
	s.metrics.expires(n.cert.Leaf.NotAfter)
}

// notifyLocked tells the watchers.
func (s *Source) notifyLocked() {
	for w := range s.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Changed returns a channel that gets a signal after certificates, roots, CRL or revocations
// changed: recheck live connections then. cancel ends it.
func (s *Source) Changed() (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = map[chan struct{}]struct{}{}
	}
	s.watchers[w] = struct{}{}
	return w, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}
}

// Status returns what the Source says of itself now.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Self is the node's own identity.
func (s *Source) Self() ID { return s.current.Load().self }
