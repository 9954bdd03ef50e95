package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"
)

// verified are the chains of a leaf that were found good: nearly always one.
type verified []path

// path is one chain.
type path struct {
	notBefore, notAfter time.Time // the part of time in which all of it is valid
	issuers             []link    // between leaf and root
}

// link is an intermediate, by what it can be revoked by.
type link struct {
	serial SerialKey
	spki   [32]byte
}

// chainCache remembers verified leaves under one set of roots, so that a resumed connection or a
// recheck costs a hash and not a signature check.
type chainCache struct {
	mu    sync.Mutex
	known map[[32]byte]verified
}

// chainCacheMax bounds the cache; when it is full it starts anew.
const chainCacheMax = 10_000

func (c *chainCache) get(key [32]byte) (verified, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known[key]
	return v, ok
}

func (c *chainCache) put(key [32]byte, v verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= chainCacheMax {
		c.known = make(map[[32]byte]verified)
	}
	c.known[key] = v
}

// verifyChain checks that presented (the leaf first) leads to roots now, with a usage and without a revoked issuer (nil =
// none is), and returns when that ends.
func verifyChain(cache *chainCache, presented []*x509.Certificate, roots *x509.CertPool, usages []x509.ExtKeyUsage, revoked func(link) bool) (time.Time, error) {
	if len(presented) == 0 {
		return time.Time{}, &RefusedError{Reason: ReasonNone, Detail: "no certificate was presented"}
	}
	leaf, now := presented[0], time.Now()
	key := sha256.Sum256(leaf.Raw)
	v, _ := cache.get(key)
	if v = v.at(now); len(v) == 0 {
		var err error
		if v, err = verifyAnew(presented, roots, usages, now); err != nil {
			return time.Time{}, err
		}
		cache.put(key, v)
	}
	return v.longest(revoked)
}

// at returns the chains that are valid at a time.
func (v verified) at(now time.Time) (valid verified) {
	for _, p := range v {
		if !now.Before(p.notBefore) && !now.After(p.notAfter) {
			valid = append(valid, p)
		}
	}
	return valid
}

// longest returns the end of the chain that is valid longest, of those without a revoked issuer.
func (v verified) longest(revoked func(link) bool) (end time.Time, err error) {
	for _, p := range v {
		if revoked != nil && slices.ContainsFunc(p.issuers, revoked) {
			continue
		}
		if p.notAfter.After(end) {
			end = p.notAfter
		}
	}
	if end.IsZero() {
		return end, &RefusedError{Reason: ReasonRevoked, Detail: "the certificate of its issuer is revoked; get a new certificate from one that is not"}
	}
	return end, nil
}

// verifyAnew checks cheap things first: a hostile certificate must not cost signatures.
func verifyAnew(presented []*x509.Certificate, roots *x509.CertPool, usages []x509.ExtKeyUsage, now time.Time) (verified, error) {
	leaf := presented[0]
	if err := checkLeaf(leaf, usages); err != nil {
		return nil, err
	}
	intermediates := x509.NewCertPool()
	for _, c := range presented[1:] {
		if err := checkKey(c); err != nil {
			return nil, &RefusedError{Reason: ReasonWeakKey, Detail: "intermediate " + c.Subject.String() + ": " + err.Error(), Err: err}
		}
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: usages[:1]})
	if err != nil {
		return nil, untrusted(leaf, err)
	}
	return pathsOf(chains), nil
}

// checkLeaf applies the rules that need no chain.
func checkLeaf(leaf *x509.Certificate, usages []x509.ExtKeyUsage) error {
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return &RefusedError{Reason: ReasonUsage, Detail: "the certificate is a certificate authority's, not a leaf"}
	}
	if slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return &RefusedError{Reason: ReasonUsage, Detail: "the extended key usage 'any' is not accepted; name clientAuth"}
	}
	for _, u := range usages {
		if !slices.Contains(leaf.ExtKeyUsage, u) {
			return &RefusedError{Reason: ReasonUsage, Detail: "the certificate lacks the extended key usage " + usageName(u)}
		}
	}
	if err := checkKey(leaf); err != nil {
		return &RefusedError{Reason: ReasonWeakKey, Detail: err.Error(), Err: err}
	}
	return nil
}

func usageName(u x509.ExtKeyUsage) string {
	if u == x509.ExtKeyUsageServerAuth {
		return "serverAuth"
	}
	return "clientAuth"
}

// untrusted sorts what x509 says.
func untrusted(leaf *x509.Certificate, err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return &RefusedError{Reason: ReasonExpired, Detail: "valid from " + leaf.NotBefore.UTC().Format(time.RFC3339) + " to " + leaf.NotAfter.UTC().Format(time.RFC3339) + ": " + err.Error(), Err: err}
	}
	return &RefusedError{Reason: ReasonUntrusted, Detail: "issuer " + leaf.Issuer.String() + ": " + err.Error(), Err: err}
}

// pathsOf keeps of chains what is asked later.
func pathsOf(chains [][]*x509.Certificate) (v verified) {
	for _, chain := range chains {
		p := path{notBefore: chain[0].NotBefore, notAfter: chain[0].NotAfter}
		for i, c := range chain[1:] {
			if c.NotAfter.Before(p.notAfter) {
				p.notAfter = c.NotAfter
			}
			if c.NotBefore.After(p.notBefore) {
				p.notBefore = c.NotBefore
			}
			if i+2 < len(chain) {
				p.issuers = append(p.issuers, link{SerialKey{c.Issuer.String(), SerialText(c.SerialNumber)}, SPKIHash(c)})
			}
		}
		v = append(v, p)
	}
	return v
}
